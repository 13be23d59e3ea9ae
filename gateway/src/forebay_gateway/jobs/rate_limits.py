"""How often each operation may be asked for: RunPod's numbers, which grow with the pods that are ready."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from forebay_kube.endpoint_key import EndpointKey

RATE_LIMIT_WINDOW = 10.0
"""Seconds."""

RATES = {"runsync": 2000, "run": 1000, "status": 2000, "stream": 2000, "cancel": 100, "purge-queue": 2, "retry": 100}
"""Requests in one window, for each ready pod and at least once."""


CONCURRENT_REQUESTS = {"runsync": 400, "run": 200, "status": 400, "stream": 400, "cancel": 20, "retry": 20}
"""Requests that are being answered, for each ready pod and at least once."""


class RateLimits:
    """Counts in windows that begin with a first request, and what is being answered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[tuple[EndpointKey, str], tuple[float, int]] = {}
        self._answering: Counter[tuple[EndpointKey, str]] = Counter()

    def take(self, key: EndpointKey, operation: str, pods: int) -> float:
        """Count a request; 0 where it may go on, else the seconds after which another may come."""
        most = RATES.get(operation, 0) * max(1, pods)
        now = self._clock()
        began, count = self._windows.get((key, operation), (now, 0))
        if now - began >= RATE_LIMIT_WINDOW:
            began, count = now, 0
        if most and count >= most:
            return began + RATE_LIMIT_WINDOW - now
        self._windows[key, operation] = began, count + 1
        return 0.0

    @contextmanager
    def answering(self, key: EndpointKey, operation: str, pods: int) -> Iterator[bool]:
        """Count a request while it is answered; whether there are not too many."""
        most = CONCURRENT_REQUESTS.get(operation, 0) * max(1, pods)
        self._answering[key, operation] += 1
        try:
            yield not most or self._answering[key, operation] <= most
        finally:
            self._answering[key, operation] -= 1
            if not self._answering[key, operation]:
                del self._answering[key, operation]

    def forget(self, key: EndpointKey) -> None:
        """The endpoint is gone."""
        for each in [each for each in self._windows if each[0] == key]:
            del self._windows[each]
