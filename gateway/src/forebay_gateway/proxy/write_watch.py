"""Lets go of a client that takes nothing of what is written to it."""

import asyncio


class WriteWatch:
    """Of one connection. `seconds`: how long a client may take nothing."""

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Watch as long as something is left that the client has not taken."""
        self._watch(0)

    def end(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _watch(self, before: int) -> None:
        """`before`: what was left then."""
        left = self._transport.get_write_buffer_size()
        if left and left == before:
            self._transport.abort()
        elif left and not self._timer:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look_again, left)

    def _look_again(self, before: int) -> None:
        self._timer = None
        self._watch(before)


def not_connected(data: bytes) -> None:
    """Stands for the transport's write before there is one."""
    raise ConnectionError(f"{len(data)} bytes for a client that is not connected yet")
