"""Wires the parts of the operator, and runs them while it leads. `__main__` calls it."""

import argparse
import asyncio
import logging
import signal
import socket
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from operator import itemgetter
from typing import Any, TypeVar

from forebay_kube.api_client import ApiServerError
from forebay_kube.endpoint_key import EndpointKey
from forebay_kube.names import KIND
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.apiserver.event_recorder import EventRecorder
from forebay_operator.apiserver.event_source import EventSource, build_cache
from forebay_operator.apiserver.leader_election import Candidate
from forebay_operator.autoscaling.autoscaler import Autoscaler
from forebay_operator.controller.reconciler import Reconciler
from forebay_operator.controller.status_writer import StatusWriter
from forebay_operator.controller.valkey_password import ensure_valkey_password
from forebay_operator.controller.workers import (
    WORKERS,
    purge_deleted,
    resync,
    wait_for_cache,
    wait_until_seen,
    work,
    work_while_leading,
)
from forebay_operator.gateway_slices.slice_writer import SliceWriter
from forebay_operator.keys.key_digest_sync import KeyDigestSync, WatchedEndpoints
from forebay_operator.keys.key_refresh import KeyRefresher
from forebay_operator.metrics import LOOP_LAG
from forebay_operator.observability.endpoint_collector import observe
from forebay_operator.observability.health import Health, serve_health
from forebay_operator.pods.gateways import Gateways
from forebay_operator.pods.startup_poller import StartupPoller
from forebay_operator.settings import Settings, UpgradeSettings
from forebay_operator.spec import Inheritance
from forebay_operator.upgrades.coordinator import UpgradeCoordinator
from forebay_operator.work_queue import WorkQueue

logger = logging.getLogger(__name__)

T = TypeVar("T")

LEASE_NAME = "forebay-operator"
CONNECT_RETRY_INTERVAL = 2.0
"""Seconds between two requests to an API server that does not answer yet."""


class Operator:
    """The operator's process. It stands by until it holds the lease, and then leads."""

    def __init__(self, parsed: argparse.Namespace) -> None:
        self._parsed = parsed
        self._stop = asyncio.Event()
        self._candidate: Candidate | None = None
        self._leading: LeadingOperator | None = None

    def health(self) -> Health:
        """The state for the probes."""
        if self._leading:
            return self._leading.health()
        return Health(leads=self._candidate is not None and self._candidate.is_leader)

    async def run(self) -> None:
        """Wait for the lease, then watch and reconcile until `stop` is set.

        Raises:
            SystemExit: the CRD is not installed, or another operator has taken the lease. A former leader starts as a
                new process, so that its work does not go on.
        """
        parsed, stop = self._parsed, self._stop
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with serve_health(parsed.health_address, self.health), await Cluster.connect() as cluster:
            served = await _first(_retry_until_answered(cluster.serves_endpoints), stop)
            if served is False:
                raise SystemExit(
                    "the InferenceEndpoint CRD is not installed: run kubectl apply -f crds/, or set crds.install=true"
                )
            async with asyncio.TaskGroup() as group:
                # every operator does it, because the leader may belong to another release (docs/lifecycle.md)
                password = group.create_task(self._ensure_valkey_password(cluster))
                try:
                    await self._acquire_and_lead(cluster)
                finally:
                    password.cancel()

    async def _ensure_valkey_password(self, cluster: Cluster) -> None:
        if service := self._parsed.valkey_service:
            await ensure_valkey_password(cluster, self._parsed.namespace, service)

    async def _acquire_and_lead(self, cluster: Cluster) -> None:
        """Wait for the lease, then lead."""
        identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        self._candidate = candidate = Candidate(cluster, self._parsed.namespace, LEASE_NAME, identity)
        await _first(candidate.acquire(), self._stop)
        if self._stop.is_set():
            await candidate.release()
            return
        await self._lead(cluster, candidate)

    async def _lead(self, cluster: Cluster, candidate: Candidate) -> None:
        """Run all parts until the stop. Raises SystemExit if the lease is lost."""
        parsed = self._parsed
        source = EventSource(WorkQueue(tenant_of=itemgetter(0)), parsed.watch_namespaces)
        renewing = asyncio.create_task(candidate.keep_renewing())
        renewing.add_done_callback(lambda _: self._stop.set())
        try:
            settings = build_settings(parsed, await _retry_until_answered(cluster.get_minor_version))
            self._leading = LeadingOperator(parsed, settings, cluster, candidate, source)
            await self._leading.run(self._stop)
        finally:
            renewing.cancel()
            await candidate.release()
            await source.ended()
        if candidate.lost:
            raise SystemExit("another operator holds the lease now")


def build_settings(parsed: argparse.Namespace, kubernetes_minor: int) -> Settings:
    """The settings for the children of endpoints, from the command line."""
    return Settings(
        gpu_image=parsed.gpu_image,
        cpu_image=parsed.cpu_image,
        overlay=parsed.overlay,
        overlay_image=parsed.overlay_image,
        overlay_pull_policy=parsed.overlay_pull_policy,
        nvidia_runtime_class=parsed.nvidia_runtime_class,
        pull_policy=parsed.pull_policy,
        gateway_urls=parsed.gateway_urls,
        home_namespace=parsed.home_namespace,
        network_policies=parsed.network_policies,
        ops_peers=parsed.ops_peers,
        cluster_cidrs=parsed.cluster_cidrs,
        allowed_cidrs=parsed.allowed_cidrs,
        inheritance=Inheritance(parsed.inherit_labels, parsed.inherit_annotations),
        upgrades=UpgradeSettings(parsed.upgrade_mode, parsed.upgrade_max_concurrent, parsed.upgrade_window),
        pod_ids=parsed.pod_ids,
        defaults=parsed.endpoint_defaults,
        kubernetes_minor=kubernetes_minor,
    )


class LeadingOperator:
    """The operator that holds the lease: all its parts, and the tasks that run them."""

    def __init__(
        self,
        parsed: argparse.Namespace,
        settings: Settings,
        cluster: Cluster,
        candidate: Candidate,
        source: EventSource,
    ) -> None:
        self._cluster = cluster
        self._candidate = candidate
        self._source = source
        self._queue = source.queue
        self._synced = False
        """Whether every endpoint that existed at the start has been reconciled."""
        self._namespaces = parsed.watch_namespaces
        self._resync_interval = parsed.resync_interval
        self._cache = build_cache(source.stores)
        self._seen = set[EndpointKey]()
        """Endpoints that have been reconciled at least once."""
        self._failed: list[BaseException] = []
        self._events = EventRecorder(cluster.write_event)
        self._startup_poller = StartupPoller(self._queue.add, parsed.ops_port)
        self._gateways: Gateways | None = None
        self._digests: KeyDigestSync | None = None
        if service := parsed.gateway_service:
            self._gateways = Gateways(cluster, parsed.namespace, service, parsed.ops_port)
            watched = WatchedEndpoints(lambda: set(self._cache.endpoints), self._namespaces, self._queue.add)
            self._digests = KeyDigestSync(cluster, parsed.namespace, watched)
        self._slice_writer = SliceWriter(
            cluster, self._cache, self._gateways, parsed.namespace_share, settings.inheritance
        )
        self._autoscaler = Autoscaler(cluster, self._gateways, self._events.record, self._queue.add, parsed.ops_port)
        self._upgrades = UpgradeCoordinator(settings.upgrades, self._queue.add)
        self._reconciler = Reconciler(
            cluster,
            self._cache,
            settings,
            StatusWriter(cluster, self._events, self._queue.add_later),
            startup_poller=self._startup_poller,
            slice_writer=self._slice_writer,
            digests=self._digests,
            autoscaler=self._autoscaler,
            upgrades=self._upgrades,
        )
        observe(self._queue, self._cache)

    def health(self) -> Health:
        """The state for the probes."""
        stalled = self._queue.stalled_for() if self._candidate.is_leader else 0.0
        return Health(leads=True, synced=self._synced, stalled_seconds=stalled, trouble=self._source.trouble)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until the stop. Raises SystemExit when a part failed."""

        def end_on_failure(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()):
                logger.critical("the operator stops because a part of it failed", exc_info=error)
                self._failed.append(error)
                stop.set()

        tasks = [asyncio.create_task(each) for each in self._always()]
        for task in tasks:
            task.add_done_callback(end_on_failure)
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if self._failed:
            raise SystemExit(1)

    def _always(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """The tasks that run as long as this operator leads, also while it cannot renew the lease."""
        source = self._source
        return (
            source.run(),
            LOOP_LAG.watch(),
            self._reconcile(),
            resync(self._cache, self._refresh, self._resync_interval),
            purge_deleted(self._cluster, self._queue, source.stores, self._namespaces, source.relisted),
            self._wait_until_reconciled(),
            self._startup_poller.run(),
            *([self._gateways.run()] if self._gateways else []),
        )

    async def _reconcile(self) -> None:
        """Start the workers once the cache is complete."""
        await wait_for_cache(self._cluster, self._namespaces, self._source.stores)
        if self._gateways:
            await self._gateways.wait_until_known()
        await work_while_leading(self._candidate, self._queue, self._workers)

    def _workers(self) -> list[Coroutine[Any, Any, None]]:
        """The tasks that write to the API server. They pause while the lease cannot be renewed."""
        workers = [work(self._queue, self._reconciler, self._seen) for _ in range(WORKERS)]
        if self._gateways and self._digests:
            refresher = KeyRefresher(self._cluster, self._cache, self._gateways, self._digests, self._refresh)
            workers += [self._digests.run(), refresher.run()]
        return [*workers, self._events.run(), self._autoscaler.run(), self._slice_writer.run(), self._upgrades.run()]

    async def _wait_until_reconciled(self) -> None:
        """Report readiness once every existing endpoint has been reconciled."""
        await wait_until_seen(self._cluster, KIND, self._namespaces, self._seen)
        self._synced = True
        self._upgrades.start()

    def _refresh(self, key: EndpointKey) -> None:
        """Queue a reconcile that bypasses the cache for an endpoint."""
        self._reconciler.force_refresh(key)
        self._queue.add(key)


async def _first(waiting: Coroutine[Any, Any, T], stop: asyncio.Event) -> T | None:
    """Wait for the coroutine or the stop. Returns the result, or None if the stop came first."""
    tasks = asyncio.create_task(waiting), asyncio.create_task(stop.wait())
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    return tasks[0].result() if tasks[0].done() else None


async def _retry_until_answered(question: Callable[[], Awaitable[T]]) -> T:
    """Repeat a request until the API server answers. The API server may start later, and answers 403 until RBAC is
    ready."""
    while True:
        try:
            return await question()
        except ApiServerError as error:
            logger.warning("the API server: %s", error)
            await asyncio.sleep(CONNECT_RETRY_INTERVAL)
