"""A body that goes on while it comes: it counts, has a time of its own, and its client waits for who reads it."""

import asyncio
from collections.abc import Callable

from forebay_gateway.fairness.pacing import Reader
from forebay_gateway.fairness.quotas import Reservation
from forebay_gateway.http import errors
from forebay_gateway.http.body_stream import BodyStream
from forebay_gateway.http.errors import Refused
from forebay_protocol.errors import SLOW_BODY

STREAMED_BYTES = 20 << 20
"""Bytes that count for it at most: two parts of a file, and what waits for them."""

STREAMED_STEP_BYTES = 8 << 20
"""Bytes that must come in the time that a body may take."""

SLOW_STORE = "slow store"
"""Why nothing is read from the client."""


class StreamedBody(BodyStream):
    """`seconds` is the time for each step; `refuse` is called where the client does not keep it. Time in which the
    client waits does not count."""

    def __init__(
        self, reading: Reader, reserved: Reservation, seconds: float, refuse: Callable[[Refused], None]
    ) -> None:
        super().__init__(self._pause_client, self._resume_client)
        self._reading = reading
        self._reserved = reserved
        self._seconds = seconds
        self._refuse_slow = refuse
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._begin_step()

    def take(self, data: bytes | bytearray, *, complete: bool) -> None:
        """More of it has come, or all. Raises Refused where there is no room for it."""
        step, self._size = self._size // STREAMED_STEP_BYTES, self._size + len(data)
        if not self._reserved.resize(min(self._size, STREAMED_BYTES)):
            raise Refused(errors.TOO_MANY)
        self.feed(data)
        if complete:
            self._end_step()
            self.end()
        elif step < self._size // STREAMED_STEP_BYTES and not self.paused:
            self._begin_step()

    def close(self) -> None:
        """The client need not send more; it is read all the same, so that it comes to read its answer."""
        self._end_step()
        self._reading.release(SLOW_STORE)

    def _pause_client(self) -> None:
        self._end_step()
        self._reading.pause(SLOW_STORE)

    def _resume_client(self) -> None:
        self._begin_step()
        self._reading.release(SLOW_STORE)

    def _begin_step(self) -> None:
        self._end_step()
        if not self.complete:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._refuse_slow, Refused(SLOW_BODY))

    def _end_step(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
