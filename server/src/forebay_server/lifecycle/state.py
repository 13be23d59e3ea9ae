"""What the server is doing, shared by its two ports: written where it happens, read by the probes."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from forebay_server.failure import Failure
from forebay_server.lifecycle.startup import Download, Startup, Step

__all__ = ["InFlight", "ServerState", "Step"]


class InFlight:
    """The requests being answered. Used on the event loop only; `count` may be read from any thread."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any] | None] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self.begun = 0
        """How many there have been that need the engine; the server's own questions to it do not count."""
        self.working = 0
        """How many of those there are now."""

    @property
    def count(self) -> int:
        return len(self._tasks)

    @contextmanager
    def one(self, *, needs_engine: bool = True) -> Iterator[None]:
        """Counts one request, answered by the current task, for as long as the block runs."""
        task = asyncio.current_task()
        self.begun += needs_engine
        self.working += needs_engine
        self._tasks.append(task)
        self._idle.clear()
        try:
            yield
        finally:
            self.working -= needs_engine
            self._tasks.remove(task)
            if not self._tasks:
                self._idle.set()

    async def idle(self) -> None:
        """Returns once no request is being answered."""
        await self._idle.wait()

    def cancel(self) -> None:
        """Cut every request short; its client sees the connection close."""
        for task in self._tasks:
            if task is not None:
                task.cancel()


class ServerState:
    """One per process."""

    def __init__(
        self,
        step: Step = Step.IMPORTING,
        *,
        draining: bool = False,
        engine_dead: Callable[[], bool] = lambda: False,
        engine_stuck: Callable[[], str] = lambda: "",
        download: Download | None = None,
        steps_since_last_call: Callable[[], Iterable[tuple[Step, float]]] = tuple,
    ) -> None:
        """`steps_since_last_call`: those that vLLM's processes have begun, and when: see journal."""
        self.startup = Startup(step)
        self._steps_since_last_call = steps_since_last_call
        self.draining = draining
        self.asleep = False
        """Whether the engine was put to sleep, or is on its way there or back: see engine."""
        self.leaving = False
        """Whether it is about to fall asleep unless a request comes: not ready, but it answers."""
        self.failure: Failure | None = None
        """Set by what runs inside vLLM when the start has to stop."""
        self._engine_dead = engine_dead
        self._engine_stuck = engine_stuck
        self.seconds_since_work: Callable[[], float] | None = None
        """Since the engine finished a step; None before there is an engine."""
        self.download = download
        """The model's way from the hub, while it is on its way."""
        self.reasoning_parser = ""
        """The one that the model's family needs and nobody has set: advice for the endpoint's status."""
        self.in_flight = InFlight()

    def attach_engine(
        self, *, dead: Callable[[], bool], stuck: Callable[[], str], seconds_since_work: Callable[[], float]
    ) -> None:
        """Ask vLLM's engine from now on.

        Args:
            dead: whether it has stopped for good.
            stuck: why it counts as wedged, "" while it works: see liveness.
            seconds_since_work: since it finished a step.
        """
        self._engine_dead, self._engine_stuck, self.seconds_since_work = dead, stuck, seconds_since_work

    @property
    def step(self) -> Step:
        self._follow()
        return self.startup.step

    @step.setter
    def step(self, step: Step) -> None:
        self._follow()
        self.startup.enter(step)

    def _follow(self) -> None:
        for step, at in self._steps_since_last_call():
            self.startup.enter(step, at)

    def unhealthy_reason(self) -> str:
        """Why only a restart can help, in a few words; "" while the server is well."""
        if self._engine_dead():
            return "the engine has stopped"
        return self._engine_stuck()

    def not_ready_because(self) -> str:
        """Why no request should come here now, in a few words; "" when one may."""
        if self.draining:
            return "shutting down"
        if sick := self.unhealthy_reason():
            return sick
        if self.step is not Step.READY:
            return f"starting: {self.step}"
        if self.leaving:
            return "about to sleep"
        return "sleeping" if self.asleep else ""
