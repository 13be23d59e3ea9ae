"""Waits for an asyncio event with a time-out.

Held requests, the job dispatcher, long polls of the job API and the batch processor use it.
"""

import asyncio
from contextlib import suppress


async def wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, for up to `seconds`.

    asyncio.wait_for of Python 3.11 would miss a cancellation that arrives together with the event.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
