"""SIGTERM: while the server starts, it ends at once; later no new requests come in, the running ones finish, and then
vLLM stops as it does on Ctrl-C."""

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from forebay_server.lifecycle.state import ServerState

log = logging.getLogger(__name__)


class SigtermHold:
    """Takes the place of signal.signal, and leaves SIGTERM alone from `begin` to `end`.

    vLLM sets a handler that raises KeyboardInterrupt, which is lost while it waits for its engine (seen with 0.32): a
    pod deleted during its start would stay until it is killed. It stays in place after `end`, since uvloop keeps the
    function it found. Only this process is concerned: those of the engine have handlers of their own.
    """

    def __init__(self) -> None:
        self._set_handler = signal.signal
        self._process = 0

    def begin(self, handler: Callable[..., None]) -> None:
        self._set_handler(signal.SIGTERM, handler)
        self._process = os.getpid()
        signal.signal = self

    def end(self) -> None:
        self._process = 0

    def __call__(self, signalnum: Any, handler: Any) -> Any:
        if signalnum == signal.SIGTERM and os.getpid() == self._process:
            return signal.getsignal(signal.SIGTERM)
        return self._set_handler(signalnum, handler)


_hold = SigtermHold()


def stop_at_once_on_sigterm() -> None:
    """For the time before requests are served. A process with id 1 would not even notice SIGTERM by default."""
    _hold.begin(_stop_at_once)


def _stop_at_once(*_: object) -> None:
    """Nothing is unwound: what raises an exception here is at the mercy of whatever code runs just now."""
    log.info("Stopping before the server was ready")
    for child in multiprocessing.active_children():
        child.terminate()
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(0)


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
        _hold.end()
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
