"""The shutdown of the process: the signal, the drain of requests and jobs, and the last connections. `app` calls it."""

import asyncio
import logging
import signal
from collections.abc import Collection, Sequence, Set

from forebay_gateway.job_services import JobServices
from forebay_gateway.proxy.client_connection import ClientConnection

logger = logging.getLogger(__name__)

CLOSING_SECONDS = 1.0
"""Seconds that clients have to take their last bytes before the process ends."""

CLOSING_INTERVAL = 0.01


class ShutdownSignal:
    """SIGTERM or SIGINT, or a part that failed. A second signal ends the drain."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._requested = asyncio.Event()
        self._again = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._signal)

    async def wait(self) -> None:
        """Wait for the first signal, or for the failure of a part."""
        await self._requested.wait()

    async def wait_again(self) -> None:
        """Wait for the second signal."""
        await self._again.wait()

    def failed(self, task: asyncio.Task[None]) -> None:
        """Handle the end of one of the gateway's own tasks. They end only by a failure or a cancellation."""
        if not task.cancelled() and (error := task.exception()):
            logger.critical("a part of the gateway failed", exc_info=error)
            self.error = error
            self._requested.set()
            self._again.set()

    def _signal(self) -> None:
        (self._again if self._requested.is_set() else self._requested).set()


async def drain(
    connections: Collection[ClientConnection], jobs: JobServices | None, seconds: float, stop: ShutdownSignal
) -> None:
    """Wait for up to `seconds` until the current requests and jobs have ended."""
    busy = [each for each in connections if each.busy]
    logger.info("shutting down: waiting up to %g s for %d requests", seconds, len(busy))
    again = asyncio.create_task(stop.wait_again())
    ends = asyncio.create_task(_end(busy, jobs))
    await asyncio.wait({again, ends}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    ends.cancel()


async def close(connections: Set[ClientConnection]) -> None:
    """Close the remaining connections. A client whose request is unanswered gets the error for a shutdown.

    The loop may still add connections that were accepted just before the listeners closed.
    """
    cancelled: set[ClientConnection] = set()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CLOSING_SECONDS
    while True:
        for each in connections - cancelled:
            each.cancel()
            cancelled.add(each)
        await asyncio.sleep(CLOSING_INTERVAL)
        if not connections or loop.time() > deadline:
            break
    for each in list(connections):
        each.abort()
    await asyncio.sleep(0)  # an aborted connection is lost in the loop's next round


async def _end(busy: Sequence[ClientConnection], jobs: JobServices | None) -> None:
    if jobs:
        await jobs.drain()
    for each in busy:
        await each.ended()
