"""The state of the server. Its parts write it, and the probes of the ops port read it."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from forebay_server.failure import Failure
from forebay_server.lifecycle.startup import Download, Startup, Step


class InFlight:
    """The requests that are being answered. Use it on the event loop only; `count` may be read from any thread."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any] | None] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self.begun = 0
        """The number of requests so far that need the engine, without the server's own requests."""
        self.working = 0
        """The number of requests that need the engine and run now."""

    @property
    def count(self) -> int:
        """The number of requests in flight."""
        return len(self._tasks)

    @contextmanager
    def one(self, *, needs_engine: bool = True) -> Iterator[None]:
        """Count a request while the block runs. The current task answers the request."""
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
        """Wait until no request is being answered."""
        await self._idle.wait()

    def cancel(self) -> None:
        """Cancel every request. The connections of the clients close."""
        for task in self._tasks:
            if task is not None:
                task.cancel()


class ServerState:
    """The state of the server. There is one in each process."""

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
        """`steps_since_last_call` returns the steps that vLLM's processes have begun, with times: see journal."""
        self.startup = Startup(step)
        self._steps_since_last_call = steps_since_last_call
        self.draining = draining
        self.asleep = False
        """Whether the engine sleeps, falls asleep or wakes up: see engine."""
        self.leaving = False
        """Whether the engine will sleep unless a request arrives. Until then the server is not ready, but answers."""
        self.failure: Failure | None = None
        """The reason to stop the start. Code that runs inside vLLM sets it."""
        self._engine_dead = engine_dead
        self._engine_stuck = engine_stuck
        self.seconds_since_work: Callable[[], float] | None = None
        """Returns the seconds since the engine finished a step; None before there is an engine."""
        self.download = download
        """The download of the model, if there is one."""
        self.reasoning_parser = ""
        """The reasoning parser to recommend in the endpoint's status: the model's family needs it, and the
        user has set no parser."""
        self.vllm_version = ""
        """The version of the image's vLLM; "" until it is known."""
        self.recognized_variables: Mapping[str, str] | None = None
        """The variables of the environment that the image's vLLM or the server knows, with their status. None until
        vLLM's parser was read."""
        self.in_flight = InFlight()

    def attach_engine(
        self, *, dead: Callable[[], bool], stuck: Callable[[], str], seconds_since_work: Callable[[], float]
    ) -> None:
        """Read the state of vLLM's engine from now on.

        Args:
            dead: returns whether it has stopped for good.
            stuck: returns why it counts as stuck, "" while it works: see liveness.
            seconds_since_work: returns the seconds since it finished a step.
        """
        self._engine_dead, self._engine_stuck, self.seconds_since_work = dead, stuck, seconds_since_work

    @property
    def step(self) -> Step:
        """The current step of the start."""
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
        """The reason why only a restart helps, in a few words; "" while the server is healthy."""
        if self._engine_dead():
            return "the engine has stopped"
        return self._engine_stuck()

    def not_ready_because(self) -> str:
        """Why the server is not ready for requests, in a few words; "" if it is."""
        if self.draining:
            return "shutting down"
        if sick := self.unhealthy_reason():
            return sick
        if self.step is not Step.READY:
            return f"starting: {self.step}"
        if self.leaving:
            return "about to sleep"
        return "sleeping" if self.asleep else ""
