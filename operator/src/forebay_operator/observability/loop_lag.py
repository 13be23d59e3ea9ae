"""How late the event loop is: while one step of it takes long, everything else in this process waits."""

import asyncio
import time

from forebay_operator.metrics import LOOP_BUSY, LOOP_LAG

SAMPLE_INTERVAL = 0.25
"""Seconds from one look to the next."""


async def watch_lag() -> None:
    """Look how much later than asked for this is called, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        due, before = loop.time() + SAMPLE_INTERVAL, time.thread_time()
        await asyncio.sleep(SAMPLE_INTERVAL)
        late = max(0.0, loop.time() - due)
        LOOP_LAG.observe(late)
        LOOP_BUSY.observe(min(late, time.thread_time() - before))
