"""Detects an engine that makes no progress. The port of its server still answers, so the engine looks alive from
outside.

The check counts finished steps of the engine, never the duration of requests. A pod under full load with a queue of
minutes finishes a step every few milliseconds.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0

UNWATCHED_SECONDS = 30.0
"""A gap of this length between two checks is ignored: the machine was stopped, or the clock jumped."""

FAILED_PROBES = 2
"""Consecutive failed probes of an idle engine after which the server is unhealthy."""


@dataclass(frozen=True)
class Patience:
    """Time limits in seconds."""

    stuck: float = 120.0
    """The engine is stuck if requests run and no step finishes for this time."""
    probe: float = 60.0
    """An engine that is idle for this time gets a probe. 0: never."""


class EngineWatch:
    """Watches the engines by their number. There is one engine, or one for each rank of a data-parallel group.

    `requests` returns the number of unfinished requests of each engine. `requests` and all methods are safe in any
    thread.
    """

    def __init__(
        self,
        patience: Patience,
        requests: Callable[[], Mapping[int, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience = patience
        self._requests = requests
        self._clock = clock
        self._last_step: dict[int, float] = {}
        self._last_idle: dict[int, float] = {}
        self._last_check = self._last_work = clock()
        self._failed_probes = 0
        self._last_failure = ""
        self._asleep = False

    def stepped(self, engine: int) -> None:
        """Record that `engine` has finished a step."""
        self._last_step[engine] = self._last_work = self._clock()

    def slept(self, asleep: bool) -> None:
        """Record that the engine was put to sleep, or woken."""
        self._asleep = asleep
        self._last_work = self._clock()

    def probed(self, failure: str) -> None:
        """Record the result of a probe; `failure` is "" for success."""
        self._failed_probes = self._failed_probes + 1 if failure else 0
        self._last_failure = failure
        self._last_work = self._clock()

    def stuck(self) -> str:
        """Why the engine is stuck, in a few words; "" if it is not stuck. Call it every few seconds."""
        now = self._clock()
        running = self._requests()
        unwatched = now - self._last_check > UNWATCHED_SECONDS
        self._last_check = now
        for engine, count in running.items():
            if count == 0 or unwatched or self._asleep:
                self._last_idle[engine] = now
                continue
            since = now - max(self._last_step.get(engine, 0.0), self._last_idle.setdefault(engine, now))
            if since > self._patience.stuck:
                which = f"engine {engine}" if len(running) > 1 else "the engine"
                requests = "1 request" if count == 1 else f"{count} requests"
                return f"{which} has {requests} and has finished no step for {since:.0f} s"
        if self._failed_probes >= FAILED_PROBES:
            return f"the model does not answer: {self._last_failure}"
        return ""

    def needs_probe(self) -> bool:
        """Whether the engine has been idle for long enough for a probe."""
        if not self._patience.probe or self._asleep or any(self._requests().values()):
            return False
        return self._clock() - self._last_work >= self._patience.probe

    def seconds_since_work(self) -> float:
        """Seconds since a step was finished or a probe answered."""
        return self._clock() - self._last_work


async def keep_watch(
    watch: EngineWatch, probe: Callable[[], Coroutine[Any, Any, None]], ended: Callable[[], bool] = lambda: False
) -> None:
    """Check the engine each second until `ended`. Run `probe` if the engine is idle; it raises an error if it fails.

    A running probe is one of the engine's requests. So a probe that hangs is noticed like any other request.
    """
    running: asyncio.Task[None] | None = None
    while not ended():
        await asyncio.sleep(TICK_SECONDS)
        watch.stuck()
        if running is not None and running.done():
            error = running.exception()
            if error is not None:
                logger.error("The engine was idle, and did not answer a request: %s", error)
            watch.probed(str(error) if error is not None else "")
            running = None
        if running is None and watch.needs_probe():
            running = asyncio.create_task(probe())
