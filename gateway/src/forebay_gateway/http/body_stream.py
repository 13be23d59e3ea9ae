"""A request's body that is read while it arrives. The connection feeds it; the upload reads it."""

import asyncio
from collections.abc import Callable

from forebay_gateway.http.errors import Refused

MAX_UNREAD_BYTES = 256 << 10
"""Bytes that wait for the reader above which the client is paused."""


class BodyStream:
    """The stream, with one reader. `pause` and `resume` stop and continue the reading from the client."""

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause = pause
        self._resume = resume
        self._unread = bytearray()
        self._changed = asyncio.Event()
        self.complete = False
        self._refused: Refused | None = None
        self.paused = False

    def feed(self, data: bytes | bytearray) -> None:
        """Add bytes of the body. Pauses the connection if more than MAX_UNREAD_BYTES wait."""
        self._unread += data
        self._changed.set()
        if len(self._unread) > MAX_UNREAD_BYTES and not self.paused:
            self.paused = True
            self._pause()

    def end(self) -> None:
        """Mark the body as complete."""
        self.complete = True
        self._changed.set()

    def fail(self, refused: Refused) -> None:
        """End the stream with an error, which the reader gets."""
        self._refused = refused
        self._changed.set()

    async def read(self) -> bytes:
        """Wait for the next bytes; b"" at the end. Raises Refused."""
        while not self._unread and not self.complete and not self._refused:
            self._changed.clear()
            await self._changed.wait()
        if self._refused:
            raise self._refused
        data = bytes(self._unread)
        self._unread.clear()
        if self.paused:
            self.paused = False
            self._resume()
        return data
