"""Ending a server of a test without losing a connection."""

import asyncio
import socket
from collections.abc import Iterable


async def stop_listening(sockets: Iterable[socket.socket]) -> None:
    """Accept no more connections, and let accepted ones reach their protocol.

    Python's own server never closes a connection if it closes between accepting it and creating its transport
    (python/cpython#109564). Call this first.
    """
    loop = asyncio.get_running_loop()
    for each in sockets:
        loop.remove_reader(each)
    await asyncio.sleep(0)  # what was taken has a transport now
    await asyncio.sleep(0)  # and its protocol knows
