"""How often progress is written: seldom enough for an API server that thousands of endpoints share."""

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

KEY_INTERVAL = 10.0
"""Seconds between two writes of one endpoint when all that is new is progress."""

TOTAL_RATE = 20
"""Writes of progress in one second, over all endpoints."""


class RateLimiter(Generic[Item]):
    """Gives each key a moment for its next write. A key that comes back too early keeps its moment, so that many keys
    which wait do not all come back at once."""

    def __init__(self, key_interval: float = KEY_INTERVAL, total_rate: int = TOTAL_RATE) -> None:
        self._key_interval = key_interval
        self._total_rate = total_rate
        self._written: dict[Item, float] = {}
        self._moments: dict[Item, float] = {}
        self._taken: Counter[int] = Counter()
        """How many moments were given in each second."""

    def wait(self, key: Item, now: float, patience: float = 0.0) -> float:
        """Seconds until the key may write; 0.0 when it may now. Call `wrote` when it has.

        A key that is not in a hurry lets at least `patience` seconds pass, in which what it would write may get old.
        """
        if key not in self._moments:
            due = self._written.get(key, now - self._key_interval) + self._key_interval
            self._moments[key] = self._give(max(now + patience, due))
            for second in [second for second in self._taken if second < int(now)]:
                del self._taken[second]
        return max(0.0, self._moments[key] - now)

    def wrote(self, key: Item, now: float) -> None:
        """The key has written, in its moment or for a reason that did not wait."""
        self._moments.pop(key, None)
        self._written[key] = now

    def forget(self, key: Item) -> None:
        """The key is gone."""
        self._moments.pop(key, None)
        self._written.pop(key, None)

    def _give(self, due: float) -> float:
        second = int(due)
        while self._taken[second] >= self._total_rate:
            second += 1
        self._taken[second] += 1
        return max(due, float(second))
