"""How often each operation may be asked for: RunPod's numbers, which grow with the pods that are ready."""

import time
from collections.abc import Callable

from forebay_gateway.names import Key

WINDOW = 10.0
"""Seconds."""

RATES = {"runsync": 2000, "run": 1000, "status": 2000, "stream": 2000, "cancel": 100, "purge-queue": 2, "retry": 100}
"""Requests in one window, for each ready pod and at least once."""


class Rates:
    """Counts in windows that begin with a first request."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[tuple[Key, str], tuple[float, int]] = {}

    def take(self, key: Key, operation: str, pods: int) -> float:
        """Count a request; 0 where it may go on, else the seconds after which another may come."""
        most = RATES.get(operation, 0) * max(1, pods)
        now = self._clock()
        began, count = self._windows.get((key, operation), (now, 0))
        if now - began >= WINDOW:
            began, count = now, 0
        if most and count >= most:
            return began + WINDOW - now
        self._windows[key, operation] = began, count + 1
        return 0.0

    def forget(self, key: Key) -> None:
        """The endpoint is gone."""
        for each in [each for each in self._windows if each[0] == key]:
            del self._windows[each]
