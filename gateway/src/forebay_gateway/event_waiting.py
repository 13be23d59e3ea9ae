"""Waiting for an event of asyncio, for a while."""

import asyncio
from contextlib import suppress


async def wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, or until so many seconds are over.

    asyncio.wait_for of Python 3.11 would miss a cancellation that comes together with the event.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
