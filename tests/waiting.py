"""Waiting in tests of one event loop."""

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """Let other tasks run until the condition is true. Raises TimeoutError after this many seconds."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  there is no event for what an arbitrary expression says
            await asyncio.sleep(0.005)
