"""How late the event loop is: while one step of it takes long, everything else in this process waits."""

import asyncio

from forebay_gateway.metrics import LOOP_LAG

INTERVAL = 0.05
"""Seconds from one look to the next."""


async def watch_lag() -> None:
    """Look how much later than asked for this is called, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL
        await asyncio.sleep(INTERVAL)
        LOOP_LAG.observe(max(0.0, loop.time() - due))
