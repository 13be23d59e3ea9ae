"""Estimates the remaining time of a command of this package from earlier measurements and the speed of this machine.

`cluster up` plans its steps with it; every running step then shows the remaining time of all steps in its progress.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable

WORK = {
    "compiling Go programs": 870.0,
    "making a Debian": 40.0,
    "installing Debian packages for the node image": 30.0,
    "making the node image": 45.0,
    "building the image python": 20.0,
    "building the image vllm-cpu": 110.0,
    "building the image operator": 40.0,
    "building the image server": 10.0,
    "building the image forebay-server": 20.0,
    "building the image smollm2": 40.0,
    "building the image": 30.0,
    "creating the cluster": 15.0,
    "waiting for the cluster": 20.0,
    "loading images": 120.0,
}
"""Seconds of one core that steps took, by the beginning of their names. `make demo` measured them on two EPYC cores.
A step that runs alone counts twice its time. Steps that are not listed take seconds."""

SECONDS_PER_WORK = 0.5
"""Seconds that a second of work takes on two cores: the estimate begins with it, before this machine shows its own."""

NEARLY = 0.9
"""The most that a running step counts as done while its progress is unknown."""


class Estimate:
    """The time that planned steps still need. Its methods may be called from any thread."""

    def __init__(self, names: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._planned = {name: work_of(name) for name in names if work_of(name)}
        self._total = sum(self._planned.values())
        self._done = 0.0
        self._running: dict[str, tuple[float, Callable[[], float | None]]] = {}

    def begin(self, name: str, share: Callable[[], float | None]) -> None:
        """Record that a step begins. `share` returns the fraction done, from 0 to 1, or None if it is unknown."""
        with self._lock:
            if name in self._planned:
                self._running[name] = (self._clock(), share)

    def end(self, name: str) -> None:
        """Record that a step has ended."""
        with self._lock:
            if self._running.pop(name, None):
                self._done += self._planned[name]

    def seconds_left(self) -> float | None:
        """Seconds until all planned steps are done; None without planned steps."""
        with self._lock:
            now = self._clock()
            done = self._done + sum(
                self._planned[name] * self._share(name, began, share, now)
                for name, (began, share) in self._running.items()
            )
            if not self._total:
                return None
            return (self._total - done) * self._pace(done, now)

    def _pace(self, done: float, now: float) -> float:
        """Seconds that a second of work takes here. The more work is done, the more the estimate relies on the measured
        speed."""
        trust = min(1.0, 4 * done / self._total)
        shown = (now - self._began) / done if done else SECONDS_PER_WORK
        return math.exp((1 - trust) * math.log(SECONDS_PER_WORK) + trust * math.log(max(shown, 1e-3)))

    def _share(self, name: str, began: float, share: Callable[[], float | None], now: float) -> float:
        known = share()
        if known is not None:
            return min(1.0, known)
        expected = self._planned[name] * SECONDS_PER_WORK * len(self._running)
        return min(NEARLY, (now - began) / expected)


def work_of(name: str) -> float:
    """The work of a step, in seconds of one core; 0 for a step that takes seconds."""
    found = [prefix for prefix in WORK if name.startswith(prefix)]
    return WORK[max(found, key=len)] if found else 0.0


def in_words(seconds: float) -> str:
    """An estimate as a person says it: "about 40 s", "about 3 min 30 s", "about 12 min"."""
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    halves = round(seconds / 30)
    return f"about {halves // 2} min 30 s" if halves % 2 and halves < 20 else f"about {round(seconds / 60)} min"
