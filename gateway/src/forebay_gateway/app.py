"""Wires the parts of the gateway, and runs them until SIGTERM or SIGINT. `__main__` calls it."""

import argparse
import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

from redis import asyncio as valkey

from forebay_gateway.activator.pending_requests import Activator
from forebay_gateway.activator.readiness_probe import ReadinessProbe
from forebay_gateway.activator.scale_up import wake
from forebay_gateway.admin import serve_ops
from forebay_gateway.endpoints.backlog import Backlog
from forebay_gateway.endpoints.balancer import Balancer
from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.key_authorizer import KeyAuthorizer
from forebay_gateway.endpoints.watch import watches
from forebay_gateway.fairness.budgets import Budgets
from forebay_gateway.job_services import JobServices, open_bucket, open_job_services, open_proxies, open_valkey
from forebay_gateway.listeners import Listeners
from forebay_gateway.metrics import LOOP_LAG
from forebay_gateway.process_limits import fit_connections, raise_descriptors
from forebay_gateway.proxy.client_connection import ClientConnection
from forebay_gateway.proxy.handler import RequestHandler
from forebay_gateway.settings import Limits
from forebay_gateway.shutdown import ShutdownSignal, close, drain
from forebay_kube.api_client import ApiClient
from forebay_kube.endpoint_key import EndpointKey

logger = logging.getLogger(__name__)


async def run(parsed: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises SystemExit when a part failed."""
    limits = Limits(**{field.name: getattr(parsed, field.name) for field in dataclasses.fields(Limits)})
    limits = fit_connections(limits, raise_descriptors())
    client = open_valkey() if parsed.jobs == "valkey" else None
    open_bucket(parsed, bytes)  # this call and the next one end the process if their settings are invalid
    open_proxies()
    stop = ShutdownSignal()
    api = await ApiClient.connect()
    async with ReadinessProbe(parsed.pod_ops_port) as probe, AsyncExitStack() as parts:
        await GatewayApp(parsed, limits, api, probe, client, parts=parts).run(stop)
    if stop.error:
        raise SystemExit(f"the gateway stops because a part of it failed: {stop.error!r}")


class GatewayApp:
    """All parts of the gateway, and the tasks that run them. `parts` closes the job services at the end."""

    def __init__(
        self,
        parsed: argparse.Namespace,
        limits: Limits,
        api: ApiClient,
        probe: ReadinessProbe,
        client: valkey.Redis | None,
        *,
        parts: AsyncExitStack,
    ) -> None:
        self._parsed = parsed
        self._limits = limits
        self._api = api
        self._client = client
        self._parts = parts
        self._keys = KeyAuthorizer()
        self._directory = Directory(parsed.home_namespace)
        self._balancer = Balancer()
        self._activator = Activator(
            self._directory,
            self._balancer,
            wake=self._wake,
            find_ready=probe.find_ready,
            backlog=self._backlog,
            limits=limits,
        )
        self._budgets = Budgets(limits)
        self._jobs: JobServices | None = None
        self._handler = RequestHandler(
            self._directory, self._keys, self._activator, self._balancer, self._budgets, lambda: self._jobs
        )
        self._connections: set[ClientConnection] = set()
        self._watches = list(watches(self._directory, self._keys, parsed.namespace, parsed.watch_namespaces))
        self._listeners = Listeners(self._accept, self._directory.ports)
        self._directory.ports_changed.add(self._listeners.change)

    async def run(self, stop: ShutdownSignal) -> None:
        """Serve until the stop, then drain."""
        report, names = self._activator.report, self._handler.key_refreshes.names
        async with serve_ops(self._parsed.ops_address, self._not_ready_because, self._job_trouble, report, names):
            tasks = [asyncio.create_task(each.run(self._api)) for each in self._watches]
            tasks += [asyncio.create_task(self._serve()), asyncio.create_task(LOOP_LAG.watch())]
            for task in tasks:
                task.add_done_callback(stop.failed)
            await stop.wait()
            self._handler.drain()
            await drain(self._connections, self._jobs, self._limits.drain_seconds, stop)
            await self._api.close()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._listeners.close()
            await close(self._connections)

    async def _serve(self) -> None:
        """Serve once the watches are synced. Before that, every key would be refused, also the keys of jobs."""
        for each in self._watches:
            await each.synced.wait()
        if self._parsed.jobs != "off":
            self._jobs = await self._parts.enter_async_context(
                open_job_services(
                    self._parsed,
                    self._client,
                    keys=self._keys,
                    directory=self._directory,
                    balancer=self._balancer,
                    activator=self._activator,
                    answers=self._budgets.answers,
                    scheduler=self._budgets.scheduler,
                )
            )
        await self._listeners.open_shared(self._parsed.port)
        logger.info("serving on port %d", self._parsed.port)
        await self._listeners.run()

    def _accept(self, key: EndpointKey | None) -> ClientConnection:
        handler = self._handler
        return ClientConnection(
            key,
            self._budgets,
            self._connections,
            admit=handler.admit,
            body_limit=partial(handler.body_limit, key),
            peek=handler.peek,
            serve=handler.serve,
        )

    def _backlog(self) -> Mapping[EndpointKey, Backlog]:
        """The jobs of each endpoint now; empty before the store is open."""
        return self._jobs.backlog() if self._jobs else {}

    async def _wake(self, key: EndpointKey) -> None:
        await wake(self._api, key)

    def _not_ready_because(self) -> str:
        """The reason why the gateway is not ready; "" while it is."""
        if self._handler.draining:
            return "draining"
        return "" if all(each.synced.is_set() for each in self._watches) else "reading the cluster"

    def _job_trouble(self) -> str:
        """The reason why the job store does not answer; "" while it does. Other requests need no store."""
        return self._jobs.store.trouble if self._jobs else ""
