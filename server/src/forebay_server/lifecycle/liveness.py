"""Whether the engine makes progress. A server whose engine hangs looks alive from outside: its port answers.

The judgement rests on finished steps of the engine, never on how long a request takes: a pod under full load, with a
queue of minutes, finishes a step every few milliseconds.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0

UNWATCHED_SECONDS = 30.0
"""Time in which nobody looked for so long does not count: the whole machine was stopped, or the clock jumped."""

FAILED_PROBES = 2
"""So many in a row, on an idle engine, and the server counts as ill."""


@dataclass(frozen=True)
class Patience:
    """In seconds."""

    stuck: float = 120.0
    """Requests running, and no step finished for so long: wedged."""
    probe: float = 60.0
    """An engine that has not worked for so long is asked something. 0: never."""


class EngineWatch:
    """What is seen of the engines, by their number (there is one, or one for each part of a data-parallel group).

    `requests` gives the unfinished requests of each engine; it and the methods may be called from any thread.
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
        self._looked = self._last_work = clock()
        self._failed_probes = 0
        self._last_failure = ""
        self._asleep = False

    def stepped(self, engine: int) -> None:
        """`engine` has finished a step."""
        self._last_step[engine] = self._last_work = self._clock()

    def slept(self, asleep: bool) -> None:
        """The engine was put to sleep on purpose, or woken."""
        self._asleep = asleep
        self._last_work = self._clock()

    def probed(self, failure: str) -> None:
        """A probe was answered; `failure` is "" when rightly."""
        self._failed_probes = self._failed_probes + 1 if failure else 0
        self._last_failure = failure
        self._last_work = self._clock()

    def stuck(self) -> str:
        """Why the engine counts as wedged, in a few words; "" while it does not. To be called every few seconds."""
        now = self._clock()
        running = self._requests()
        unwatched = now - self._looked > UNWATCHED_SECONDS
        self._looked = now
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

    def wants_probe(self) -> bool:
        """Whether the engine is idle, and has been for long enough to be asked."""
        if not self._patience.probe or self._asleep or any(self._requests().values()):
            return False
        return self._clock() - self._last_work >= self._patience.probe

    def seconds_since_work(self) -> float:
        """Since a step was finished, or a probe answered."""
        return self._clock() - self._last_work


async def keep_watch(
    watch: EngineWatch, probe: Callable[[], Coroutine[Any, Any, None]], ended: Callable[[], bool] = lambda: False
) -> None:
    """Look at the engine each second, and send `probe` (which raises what went wrong) when it has been idle, until
    `ended`.

    While a probe runs it is one of the engine's requests, so a hanging one is judged like any other.
    """
    running: asyncio.Task[None] | None = None
    while not ended():
        await asyncio.sleep(TICK_SECONDS)
        watch.stuck()
        if running is not None and running.done():
            error = running.exception()
            if error is not None:
                log.error("The engine was idle, and did not answer a request: %s", error)
            watch.probed(str(error) if error is not None else "")
            running = None
        if running is None and watch.wants_probe():
            running = asyncio.create_task(probe())
