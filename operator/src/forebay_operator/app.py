"""The operator's command line."""

import argparse
import asyncio
import logging
import os
import signal
import socket
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from forebay_kube.api_client import ApiServerError
from forebay_kube.endpoint_key import EndpointKey
from forebay_kube.names import KIND
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.apiserver.event_recorder import EventRecorder
from forebay_operator.apiserver.event_source import EventSource, build_cache
from forebay_operator.apiserver.leader_election import Candidate
from forebay_operator.arguments import read_boolean, read_cidrs, read_names, read_peers, read_share
from forebay_operator.autoscaling.autoscaler import Autoscaler
from forebay_operator.child_names import OPS_PORT
from forebay_operator.controller.reconciler import Reconciler
from forebay_operator.controller.status_writer import StatusWriter
from forebay_operator.controller.workers import (
    RESYNC_INTERVAL,
    WORKERS,
    resync,
    sweep,
    wait_for_cache,
    wait_until_seen,
    work,
    work_while_leading,
)
from forebay_operator.gateway_slices.key_digest_sync import KeyDigestSync, LiveEndpoints
from forebay_operator.gateway_slices.key_refresh import KeyRefresher
from forebay_operator.gateway_slices.slice_writer import SliceWriter
from forebay_operator.observability.endpoint_collector import observe
from forebay_operator.observability.health import Health, serve_health
from forebay_operator.observability.loop_lag import watch_lag
from forebay_operator.pods.gateways import Gateways
from forebay_operator.pods.startup_poller import StartupPoller
from forebay_operator.settings import Settings
from forebay_operator.work_queue import WorkQueue

logger = logging.getLogger(__name__)

T = TypeVar("T")

HEALTH_ADDRESS = ":8080"
LEASE_NAME = "forebay-operator"
CONNECT_RETRY_INTERVAL = 2.0
"""Seconds between two questions to an API server that does not answer yet."""

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where a pod finds the namespace that it runs in."""


def build_parser() -> argparse.ArgumentParser:
    """The arguments, each with a variable as its default, so that a Deployment can set either."""
    parser = argparse.ArgumentParser(
        prog="forebay-operator",
        description="Watch InferenceEndpoints and run a vLLM server behind an OpenAI-compatible Service for each. "
        "Runs in a cluster by its service account, or outside by KUBECONFIG.",
    )

    def add(flag: str, variable: str, default: str, text: str, **options: Any) -> None:
        value = os.environ.get(variable) or default
        parser.add_argument(
            flag, default=value, help=f"{text} (variable {variable}; now {value or 'unset'})", **options
        )

    levels, policies = ("DEBUG", "INFO", "WARNING", "ERROR"), ("Always", "IfNotPresent", "Never")
    add("--gpu-image", "FOREBAY_GPU_IMAGE", "", "server image of endpoints with GPUs")
    add("--cpu-image", "FOREBAY_CPU_IMAGE", "", "server image of endpoints with gpu.count 0")
    add("--nvidia-runtime-class", "FOREBAY_NVIDIA_RUNTIME_CLASS", "", "RuntimeClass of pods with NVIDIA GPUs")
    pulls = "imagePullPolicy of server and model images"
    add("--pull-policy", "FOREBAY_PULL_POLICY", "IfNotPresent", pulls, choices=policies)
    add("--health-address", "FOREBAY_HEALTH_ADDRESS", HEALTH_ADDRESS, "HOST:PORT of probes and metrics")
    own = NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else "default"
    add("--namespace", "FOREBAY_NAMESPACE", own, "the operator's own; there is the lease by which one of several leads")
    watched = "namespaces to watch, separated by commas; none means all"
    add("--watch-namespaces", "FOREBAY_WATCH_NAMESPACES", "", watched, type=read_names)
    home = "namespace whose endpoints have their bare name as id in URLs, as the gateway has it"
    add("--home-namespace", "FOREBAY_HOME_NAMESPACE", "default", home)
    service = "Service of the gateways, in the operator's namespace; none where there are none"
    add("--gateway-service", "FOREBAY_GATEWAY_SERVICE", "", service)
    policy = "whether each endpoint gets a NetworkPolicy"
    add("--network-policies", "FOREBAY_NETWORK_POLICIES", "true", policy, type=read_boolean)
    peers = "who may reach the servers' ops port, a JSON list of NetworkPolicy peers; none means everybody"
    add("--ops-peers", "FOREBAY_OPS_PEERS", "", peers, type=read_peers)
    denied = "networks that servers must not reach, besides those of clouds' metadata, separated by commas"
    add("--cluster-cidrs", "FOREBAY_CLUSTER_CIDRS", "", denied, type=read_cidrs)
    allowed = "networks that servers may reach all the same, separated by commas"
    add("--allowed-cidrs", "FOREBAY_ALLOWED_CIDRS", "", allowed, type=read_cidrs)
    share = "part of the gateways' ports that others leave free which one namespace may have, from 0 to 1"
    add("--namespace-share", "FOREBAY_NAMESPACE_SHARE", "0.5", share, type=read_share)
    port = "port on which servers and gateways tell of themselves"
    add("--ops-port", "FOREBAY_OPS_PORT", str(OPS_PORT), port, type=int)
    rounds = "seconds in which every endpoint, of more than 150 as many, is checked once against the API server itself"
    add("--resync-interval", "FOREBAY_RESYNC_INTERVAL", f"{RESYNC_INTERVAL:g}", rounds, type=float)
    add("--log-level", "FOREBAY_LOG_LEVEL", "INFO", "how much is logged", type=str.upper, choices=levels)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the operator until SIGTERM or SIGINT."""
    parsed = build_parser().parse_args(arguments)
    logging.basicConfig(level=parsed.log_level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    if parsed.log_level != "DEBUG":
        logging.getLogger().handlers[0].addFilter(shorten_kopf)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLevelName(parsed.log_level)))
    uvloop.run(operate(parsed))


def shorten_kopf(record: logging.LogRecord) -> bool:
    """Leave the lines of code out of what kopf logs: its watches end by what passes, and the message tells it. That it
    minds no signals in a thread is as it should be."""
    if record.name.startswith("kopf."):
        record.exc_info = None
        return not record.msg.startswith("OS signals are ignored")
    return True


async def operate(parsed: argparse.Namespace) -> None:
    """Stand by until the lease is ours, then watch and reconcile, until the process is told to stop.

    Raises:
        SystemExit: the CRD is not installed, or another has taken the lease. An operator that was the leader starts
            anew, so that nothing of its work goes on.
    """
    stop, health = asyncio.Event(), Health()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serve_health(parsed.health_address, health), await Cluster.connect() as cluster:
        served = await _first(_ask_patiently(cluster.serves_endpoints), stop)
        if served is False:
            raise SystemExit("the InferenceEndpoint CRD is not installed: kubectl apply -f crds/, or crds.install=true")
        identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        candidate = Candidate(cluster, parsed.namespace, LEASE_NAME, identity)
        await _first(candidate.acquire(), stop)
        if stop.is_set():
            await candidate.release()
            return
        watches = EventSource(WorkQueue(tenant_of=itemgetter(0)), parsed.watch_namespaces)
        keeping = asyncio.create_task(candidate.keep())
        keeping.add_done_callback(lambda _: stop.set())
        health.leads = True
        try:
            await _lead(parsed, cluster, candidate, watches, health=health, stop=stop)
        finally:
            keeping.cancel()
            await candidate.release()
            await watches.ended()
        if candidate.lost:
            raise SystemExit("another operator holds the lease now")


async def _lead(
    parsed: argparse.Namespace,
    cluster: Cluster,
    candidate: Candidate,
    watches: EventSource,
    *,
    health: Health,
    stop: asyncio.Event,
) -> None:
    namespaces, queue, stores = parsed.watch_namespaces, watches.queue, watches.stores
    settings = Settings(
        gpu_image=parsed.gpu_image,
        cpu_image=parsed.cpu_image,
        nvidia_runtime_class=parsed.nvidia_runtime_class,
        pull_policy=parsed.pull_policy,
        home_namespace=parsed.home_namespace,
        network_policies=parsed.network_policies,
        ops_peers=parsed.ops_peers,
        cluster_cidrs=parsed.cluster_cidrs,
        allowed_cidrs=parsed.allowed_cidrs,
        kubernetes_minor=await _ask_patiently(cluster.get_minor_version),
    )
    cache, unsure, seen = build_cache(stores), set[EndpointKey](), set[EndpointKey]()
    observe(queue, cache)
    health.stalled_for = lambda: queue.stalled_for() if candidate.holds else 0.0
    health.trouble = lambda: watches.trouble
    events, reports = EventRecorder(cluster.write_event), StartupPoller(queue.add, parsed.ops_port)
    status_writer = StatusWriter(cluster, events, queue.add_later)
    gateways, digests = None, None
    if service := parsed.gateway_service:
        gateways = Gateways(cluster, parsed.namespace, service, parsed.ops_port)
        living = LiveEndpoints(lambda: set(cache.endpoints), namespaces, queue.add)
        digests = KeyDigestSync(cluster, parsed.namespace, living)
    slice_writer = SliceWriter(cluster, cache, gateways, digests, parsed.namespace_share)
    autoscaler = Autoscaler(cluster, gateways, events.record, queue.add, parsed.ops_port)
    reconciler = Reconciler(
        cluster, cache, settings, status_writer, reports=reports, slice_writer=slice_writer, autoscaler=autoscaler
    )

    def doubt(key: EndpointKey) -> None:
        unsure.add(key)
        queue.add(key)

    async def first_pass() -> None:
        await wait_until_seen(cluster, KIND, namespaces, seen)
        health.synced = True

    def works() -> list[Coroutine[Any, Any, None]]:
        workers = [work(queue, reconciler, unsure, seen) for _ in range(WORKERS)]
        reads = KeyRefresher(cluster, cache, gateways, slice_writer, doubt).run() if gateways else None
        keys = [each for each in (digests and digests.run(), reads) if each]
        return [*workers, events.run(), autoscaler.run(), slice_writer.run(), *keys]

    async def reconcile() -> None:
        await wait_for_cache(cluster, namespaces, stores)
        if gateways:
            await gateways.wait_until_known()
        await work_while_leading(candidate, queue, works)

    failed: list[BaseException] = []

    def end_on_failure(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            logger.critical("the operator ends, as a part of it failed", exc_info=error)
            failed.append(error)
            stop.set()

    always = (
        watches.run(),
        watch_lag(),
        reconcile(),
        resync(queue, cache, unsure, parsed.resync_interval),
        sweep(cluster, queue, stores, namespaces, watches.begun_anew),
        first_pass(),
        reports.run(),
        *([gateways.run()] if gateways else []),
    )
    tasks = [asyncio.create_task(each) for each in always]
    for task in tasks:
        task.add_done_callback(end_on_failure)
    await stop.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    if failed:
        raise SystemExit(1)


async def _first(waiting: Coroutine[Any, Any, T], stop: asyncio.Event) -> T | None:
    """Wait for either; the result, or None when the stop came first."""
    tasks = asyncio.create_task(waiting), asyncio.create_task(stop.wait())
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    return tasks[0].result() if tasks[0].done() else None


async def _ask_patiently(question: Callable[[], Awaitable[T]]) -> T:
    """Ask the API server until it answers; it may be up later than we are, and says 403 until it knows our rights."""
    while True:
        try:
            return await question()
        except ApiServerError as error:
            logger.warning("the API server: %s", error)
            await asyncio.sleep(CONNECT_RETRY_INTERVAL)


if __name__ == "__main__":
    main()
