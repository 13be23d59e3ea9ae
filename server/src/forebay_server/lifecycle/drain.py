"""Handles SIGTERM. During the start, SIGTERM ends the server immediately.

Later the server accepts no new requests, finishes the running ones, and then stops vLLM as Ctrl-C does.
"""

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from forebay_server.lifecycle.state import ServerState

logger = logging.getLogger(__name__)


class SigtermHandlerLock:
    """Replaces signal.signal, and keeps the handler of SIGTERM from `begin` to `end`.

    vLLM sets a handler that raises KeyboardInterrupt, which is lost while vLLM waits for its engine (seen with 0.32). A
    pod that is deleted during its start would then run until it is killed. This object stays in place after `end`,
    since uvloop keeps a reference to it. It affects only this process: the engine's processes have their own handlers.
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


_handler_lock = SigtermHandlerLock()


def stop_at_once_on_sigterm() -> None:
    """Set the handler for the start. By default a process with PID 1 ignores SIGTERM."""
    _handler_lock.begin(_stop_at_once)


def _stop_at_once(*_: object) -> None:
    """End the process without an exception, which the code that runs at this moment could catch."""
    logger.info("Stopping before the server was ready")
    for child in multiprocessing.active_children():
        child.terminate()
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(0)


def stop_vllm() -> None:
    """Send SIGINT to this process. vLLM's handler ends the engine and the HTTP server."""
    os.kill(os.getpid(), signal.SIGINT)


class Drain:
    """Handles SIGTERM instead of vLLM, which would cut running streams or answer new requests with 500."""

    def __init__(self, state: ServerState, seconds: float, stop: Callable[[], None] = stop_vllm) -> None:
        """`seconds`: the time in which running requests may finish."""
        self._state = state
        self._seconds = seconds
        self._stop = stop
        self._task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Install the handler. Call it on vLLM's event loop, after vLLM has set its own handlers."""
        _handler_lock.end()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.terminate)

    def terminate(self) -> None:
        """Begin the drain at the first call, end it at the second."""
        if self._task is None:
            self._state.draining = True
            self._task = asyncio.get_running_loop().create_task(self._finish())
        else:
            logger.warning("Second SIGTERM: stopping with %d requests running", self._state.in_flight.count)
            self._task.cancel()
            self._state.in_flight.cancel()
            self._stop()

    async def _finish(self) -> None:
        running = self._state.in_flight
        logger.info("Shutting down: waiting up to %g s for %d running requests", self._seconds, running.count)
        try:
            await asyncio.wait_for(running.idle(), self._seconds)
        except TimeoutError:
            logger.warning("%d requests still run after %g s: they end now", running.count, self._seconds)
            running.cancel()
        self._stop()
