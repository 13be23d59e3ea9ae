"""Limits how often the status writer writes progress, because thousands of endpoints share one API server.

The status writer calls it before it writes mere progress.
"""

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

KEY_INTERVAL = 10.0
"""Seconds between two writes of one endpoint if only progress has changed."""

TOTAL_RATE = 20
"""Writes of progress in one second, over all endpoints."""


class RateLimiter(Generic[Item]):
    """Reserves a time slot for each key's next write. A key that asks again early keeps its slot, which spreads the
    writes of many waiting keys."""

    def __init__(self, key_interval: float = KEY_INTERVAL, total_rate: int = TOTAL_RATE) -> None:
        self._key_interval = key_interval
        self._total_rate = total_rate
        self._written: dict[Item, float] = {}
        self._slots: dict[Item, float] = {}
        self._slots_per_second: Counter[int] = Counter()
        """How many slots are reserved in each second."""

    def wait(self, key: Item, now: float, min_delay: float = 0.0) -> float:
        """Seconds until the key may write, 0.0 if it may write now. Call `wrote` after the write.

        A new slot is at least `min_delay` seconds ahead. Give it for a write whose content may change in this time.
        """
        if key not in self._slots:
            due = self._written.get(key, now - self._key_interval) + self._key_interval
            self._slots[key] = self._reserve(max(now + min_delay, due))
            for second in [second for second in self._slots_per_second if second < int(now)]:
                del self._slots_per_second[second]
        return max(0.0, self._slots[key] - now)

    def wrote(self, key: Item, now: float) -> None:
        """Record that the key has written, in its slot or without one."""
        self._slots.pop(key, None)
        self._written[key] = now

    def forget(self, key: Item) -> None:
        """Drop the state of a key that no longer exists."""
        self._slots.pop(key, None)
        self._written.pop(key, None)

    def _reserve(self, due: float) -> float:
        second = int(due)
        while self._slots_per_second[second] >= self._total_rate:
            second += 1
        self._slots_per_second[second] += 1
        return max(due, float(second))
