"""What the server is doing, shared by its two ports: written where it happens, read by the probes."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from forebay_server.failure import Failure


class Step(StrEnum):
    """The steps of a start, in their order."""

    IMPORTING = "Importing"
    DOWNLOADING = "Downloading"
    LOADING_WEIGHTS = "LoadingWeights"
    WARMING_UP = "WarmingUp"
    READY = "Ready"


class InFlight:
    """The requests being answered. Used on the event loop only; `count` may be read from any thread."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any] | None] = []
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def count(self) -> int:
        return len(self._tasks)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts one request, answered by the current task, for as long as the block runs."""
        task = asyncio.current_task()
        self._tasks.append(task)
        self._idle.clear()
        try:
            yield
        finally:
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


@dataclass
class ServerState:
    """One per process."""

    step: Step = Step.IMPORTING
    draining: bool = False
    failure: Failure | None = None
    """Set by what runs inside vLLM when the start has to stop."""
    engine_dead: Callable[[], bool] = lambda: False
    """Whether vLLM's engine has stopped for good."""
    downloading: Callable[[], bool] = lambda: False
    """Whether files of the model are on their way."""
    in_flight: InFlight = field(default_factory=InFlight)

    def current_step(self) -> Step:
        """vLLM fetches what is missing while it loads, so both are one step to the code but not to a person."""
        if self.step is Step.LOADING_WEIGHTS and self.downloading():
            return Step.DOWNLOADING
        return self.step

    def not_ready_because(self) -> str:
        """Why no request should come here now, in a few words; "" when one may."""
        if self.draining:
            return "shutting down"
        if self.engine_dead():
            return "the engine has stopped"
        if self.step is not Step.READY:
            return f"starting: {self.current_step()}"
        return ""
