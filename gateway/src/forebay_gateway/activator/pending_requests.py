"""Holds requests until a pod of their endpoint is ready. The handler and the job dispatcher call it.

Each endpoint with waiting requests has one task. The task wakes an endpoint at zero, probes its pods, and then releases
or refuses the requests.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from forebay_gateway.endpoints.backlog import Backlog
from forebay_gateway.endpoints.balancer import Balancer
from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.endpoint import Address, Endpoint
from forebay_gateway.event_waiting import wait_for_event
from forebay_gateway.fairness.quotas import Quota
from forebay_gateway.http import errors
from forebay_gateway.metrics import HELD, HELD_SECONDS
from forebay_gateway.settings import Limits
from forebay_kube.endpoint_key import EndpointKey, format_key
from forebay_protocol.errors import ApiError

PROBE_INTERVAL = 0.2
"""Seconds between two probes of starting pods."""

IDLE_SECONDS = 1.0
"""Seconds of the wait for a change while there is no pod to probe. After this wait, an endpoint that is still at zero
is woken again."""

Find = Callable[[Sequence[Address]], Awaitable[list[Address]]]
Waking = Callable[[EndpointKey], Awaitable[None]]


@dataclass
class Usage:
    """The report about one endpoint for the autoscaler: requests that need the engine, since this process started."""

    begun: int = 0
    since: dict[object, float] = field(default_factory=dict)
    """The arrival of each held request, by the monotonic clock."""


class Activator:
    """Holds requests until a pod is ready, and wakes their endpoints."""

    def __init__(
        self,
        directory: Directory,
        balancer: Balancer,
        *,
        wake: Waking,
        find_ready: Find,
        backlog: Callable[[], Mapping[EndpointKey, Backlog]],
        limits: Limits,
    ) -> None:
        self._directory = directory
        self._balancer = balancer
        self._wake = wake
        self._find_ready = find_ready
        self._backlog = backlog
        self._limits = limits
        self._usage: dict[EndpointKey, Usage] = {}
        self._waiting: dict[EndpointKey, set[asyncio.Future[list[Address]]]] = {}
        self._tasks: dict[EndpointKey, asyncio.Task[None]] = {}
        self._shares = Quota(limits.held, limits.namespace_share)

    def begin(self, key: EndpointKey) -> None:
        """Count a request that needs the engine."""
        self._usage.setdefault(key, Usage()).begun += 1

    @contextmanager
    def held(self, key: EndpointKey) -> Iterator[None]:
        """Count a request as held for as long as the context lasts.

        Raises Refused if too many requests are held.
        """
        usage = self._usage.setdefault(key, Usage())
        if len(usage.since) >= self._limits.held_per_endpoint:
            raise errors.Refused(errors.too_many_held(self._directory.id_of(key)))
        if not self._shares.try_acquire(key[0]):
            raise errors.Refused(errors.TOO_MANY_WAITING)
        mark = object()
        usage.since[mark] = time.monotonic()
        HELD.inc()
        try:
            yield
        finally:
            del usage.since[mark]
            self._shares.release(key[0])
            HELD.dec()

    async def hold(self, key: EndpointKey, began: float, comment: Callable[[str], None] | None = None) -> list[Address]:
        """Hold a request until there are pods that can be tried.

        Args:
            began: when the request was complete (monotonic seconds).
            comment: writes the progress to a client that waits for a stream. It is called after `patience_seconds`,
                then once per heartbeat. None for a request that gets a status.

        Raises:
            Refused: no pod can start, no pod was ready in time, or too many requests are held.
        """
        limits = self._limits
        deadline, comment_at = began + limits.hold_seconds, began + limits.patience_seconds if comment else math.inf
        held_at = time.monotonic()
        with self.held(key):
            waiting = asyncio.ensure_future(self.wait_for_pods(key))
            try:
                while True:
                    await asyncio.wait({waiting}, timeout=max(0, min(deadline, comment_at) - time.monotonic()))
                    if waiting.done():
                        HELD_SECONDS.observe(time.monotonic() - held_at)
                        return waiting.result()
                    endpoint = self._directory.endpoint(key)
                    now = time.monotonic()  # a timer may end a little early
                    if now >= deadline:
                        raise errors.Refused(too_late(endpoint, self._directory.id_of(key), limits.hold_seconds))
                    if comment and now >= comment_at:
                        comment(f"forebay: {endpoint.progress}" if endpoint else "forebay: waiting")
                        comment_at = now + limits.heartbeat_seconds
            finally:
                waiting.cancel()

    async def wait_for_pods(self, key: EndpointKey) -> list[Address]:
        """Wait until there are pods that can be tried.

        Raises Refused if no pod can start.
        """
        future: asyncio.Future[list[Address]] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(key, set())
        waiting.add(future)
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._serve_waiting(key))
        try:
            return await future
        finally:
            waiting.discard(future)

    def report(self) -> dict[str, dict[str, Any]]:
        """The content of /held, by NAMESPACE/NAME."""
        now = time.monotonic()
        for key in [key for key, usage in self._usage.items() if not usage.since and not self._directory.endpoint(key)]:
            del self._usage[key]
        backlog = self._backlog()
        for key in backlog:
            self._usage.setdefault(key, Usage())
        return {
            format_key(key): {
                "held": len(usage.since),
                "begun": usage.begun,
                "oldestSeconds": round(now - min(usage.since.values()), 3) if usage.since else 0.0,
                "queued": jobs.waiting,
                **({"jobs": {"queued": jobs.queued, "running": jobs.running}} if jobs.queued or jobs.running else {}),
            }
            for key, usage in self._usage.items()
            for jobs in [backlog.get(key, Backlog())]
        }

    async def _serve_waiting(self, key: EndpointKey) -> None:
        waiting = self._waiting[key]
        woken = 0.0
        try:
            with self._directory.changes(key) as changed:
                while waiting:
                    changed.clear()
                    endpoint = self._directory.endpoint(key)
                    if error := find_refusal(endpoint, self._directory.id_of(key)):
                        _fail(waiting, error)
                        break
                    if pods := await self._find(key):
                        _release(waiting, pods)
                        break
                    if endpoint and endpoint.replicas == 0 and time.monotonic() - woken > IDLE_SECONDS:
                        woken = time.monotonic()
                        await self._wake(key)
                    pause = (
                        PROBE_INTERVAL if self._directory.unready(key) or self._directory.ready(key) else IDLE_SECONDS
                    )
                    await wait_for_event(changed, pause)
        except Exception:
            _fail(waiting, errors.INTERNAL)
            raise
        finally:
            del self._tasks[key], self._waiting[key]

    async def _find(self, key: EndpointKey) -> list[Address]:
        """The pods that can be tried: pods that are ready according to Kubernetes, or else according to their own
        answer."""
        if ready := self._balancer.usable(self._directory.ready(key)):
            return ready
        return await self._find_ready(self._balancer.usable(self._directory.unready(key)))


def find_refusal(endpoint: Endpoint | None, name: str) -> ApiError | None:
    """The reason not to wait for an endpoint without ready pods; None if a request should wait."""
    if endpoint is None:
        return errors.no_endpoint(name)
    if endpoint.off:
        return errors.switched_off(name, endpoint.off)
    if endpoint.failed:
        text = f"The endpoint '{name}' cannot start ({endpoint.reason}): {endpoint.message}"
        return ApiError(503, text, "endpoint_failed", headers=errors.retry_after(60))
    return None


def too_late(endpoint: Endpoint | None, name: str, seconds: float) -> ApiError:
    """The answer to a request whose wait has reached its limit."""
    if endpoint is None:
        return errors.no_endpoint(name)
    text = f"The endpoint '{name}' did not become ready within {seconds:g} s; it is at: {endpoint.progress}."
    text += f" {endpoint.reason}: {endpoint.message}" if endpoint.message else ""
    later = errors.retry_after(endpoint.eta if endpoint.eta > 0 else 10)
    return ApiError(503, text, "endpoint_starting", headers=later)


def _release(waiting: set[asyncio.Future[list[Address]]], pods: list[Address]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(pods)


def _fail(waiting: set[asyncio.Future[list[Address]]], error: ApiError) -> None:
    for future in waiting:
        if not future.done():
            future.set_exception(errors.Refused(error))
