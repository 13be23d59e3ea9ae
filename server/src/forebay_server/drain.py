"""SIGTERM: no new requests, the running ones finish, then vLLM stops as it does on Ctrl-C."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable

from forebay_server.state import ServerState

log = logging.getLogger(__name__)


def stop_vllm() -> None:
    """vLLM's own handler of SIGINT ends its engine, and its HTTP server once no request is being answered."""
    os.kill(os.getpid(), signal.SIGINT)


class Drain:
    """Takes SIGTERM over from vLLM, which would cut the running streams or answer new requests with 500."""

    def __init__(self, state: ServerState, seconds: float, stop: Callable[[], None] = stop_vllm) -> None:
        """`seconds` is how long running requests may go on."""
        self._state = state
        self._seconds = seconds
        self._stop = stop
        self._task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Call on vLLM's event loop, after vLLM has set its own handlers."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.terminate)

    def terminate(self) -> None:
        """The first call begins the drain, a second one ends it."""
        if self._task is None:
            self._state.draining = True
            self._task = asyncio.get_running_loop().create_task(self._finish())
        else:
            log.warning("Second SIGTERM: stopping with %d requests running", self._state.in_flight.count)
            self._task.cancel()
            self._state.in_flight.cancel()
            self._stop()

    async def _finish(self) -> None:
        running = self._state.in_flight
        log.info("Shutting down: waiting up to %g s for %d running requests", self._seconds, running.count)
        try:
            await asyncio.wait_for(running.idle(), self._seconds)
        except TimeoutError:
            log.warning("%d requests still run after %g s: they end now", running.count, self._seconds)
            running.cancel()
        self._stop()
