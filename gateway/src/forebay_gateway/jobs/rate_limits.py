"""Rate limits for the operations of the job API: RunPod's numbers, which grow with the ready pods. `http_api` calls
it."""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from forebay_kube.endpoint_key import EndpointKey

RATE_LIMIT_WINDOW = 10.0
"""Seconds of a window."""

RATES = {
    "runsync": 2000,
    "run": 1000,
    "status": 2000,
    "status-sync": 2000,
    "stream": 2000,
    "cancel": 100,
    "purge-queue": 2,
    "retry": 100,
}
"""Requests in one window for each ready pod. Without a ready pod, the limit for one pod applies."""

CONCURRENT_REQUESTS = {
    "runsync": 400,
    "run": 200,
    "status": 400,
    "status-sync": 400,
    "stream": 400,
    "cancel": 20,
    "retry": 20,
}
"""Requests in progress for each ready pod. Without a ready pod, the limit for one pod applies."""

BUSY_RETRY_INTERVAL = 1.0
"""Seconds after which a client may retry if too many requests are in progress."""


class RateLimits(ABC):
    """Counts requests in progress, and requests in windows. A window begins with its first request.

    The counts are in the memory of one gateway, or in Valkey for all gateways (valkey_rate_limits.py).
    """

    @abstractmethod
    def admit(self, key: EndpointKey, operation: str, pods: int) -> AbstractAsyncContextManager[float]:
        """Count a request while it is answered. Yields 0 if the request is admitted, else the seconds until a retry.

        May raise store.Unavailable.
        """

    @abstractmethod
    def forget(self, key: EndpointKey) -> None:
        """Drop the counts of an endpoint that no longer exists."""


class MemoryRateLimits(RateLimits):
    """The requests to this gateway."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[tuple[EndpointKey, str], tuple[float, int]] = {}
        self._answering: Counter[tuple[EndpointKey, str]] = Counter()

    @asynccontextmanager
    async def admit(self, key: EndpointKey, operation: str, pods: int) -> AsyncIterator[float]:
        max_concurrent = CONCURRENT_REQUESTS.get(operation, 0) * max(1, pods)
        if max_concurrent and self._answering[key, operation] >= max_concurrent:
            yield BUSY_RETRY_INTERVAL
            return
        if later := self._count_request(key, operation, pods):
            yield later
            return
        self._answering[key, operation] += 1
        try:
            yield 0.0
        finally:
            self._answering[key, operation] -= 1
            if not self._answering[key, operation]:
                del self._answering[key, operation]

    def _count_request(self, key: EndpointKey, operation: str, pods: int) -> float:
        limit = RATES.get(operation, 0) * max(1, pods)
        now = self._clock()
        began, count = self._windows.get((key, operation), (now, 0))
        if now - began >= RATE_LIMIT_WINDOW:
            began, count = now, 0
        if limit and count >= limit:
            return began + RATE_LIMIT_WINDOW - now
        self._windows[key, operation] = began, count + 1
        return 0.0

    def forget(self, key: EndpointKey) -> None:
        for each in [each for each in self._windows if each[0] == key]:
            del self._windows[each]
