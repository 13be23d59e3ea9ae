"""Aborts the connection of a client that takes no bytes. The client connection uses it."""

import asyncio


class WriteWatch:
    """The watch of one connection. `seconds`: the time without a taken byte after which the client is cut off."""

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Watch until the client has taken all bytes."""
        self._watch(0)

    def end(self) -> None:
        """Stop the watch."""
        if self._timer:
            self._timer.cancel()

    def _watch(self, before: int) -> None:
        """Abort if no byte was taken since the last check. `before`: the bytes that were left then."""
        left = self._transport.get_write_buffer_size()
        if left and left == before:
            self._transport.abort()
        elif left and not self._timer:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._recheck, left)

    def _recheck(self, before: int) -> None:
        self._timer = None
        self._watch(before)


def not_connected(data: bytes) -> None:
    """The placeholder for the transport's write before the connection is made."""
    raise ConnectionError(f"{len(data)} bytes for a client that is not connected yet")
