"""A body that is processed while it arrives: it has a memory budget and a time limit, and it slows its client down.

The client connection feeds it; the upload reads it.
"""

import asyncio
from collections.abc import Callable

from forebay_gateway.fairness.quotas import Reservation
from forebay_gateway.fairness.scheduler import Reader
from forebay_gateway.http import errors
from forebay_gateway.http.body_stream import BodyStream
from forebay_gateway.http.errors import Refused
from forebay_protocol.errors import SLOW_BODY

STREAMED_BYTES = 20 << 20
"""The most bytes that are reserved for a streamed body: two parts of a file, and the bytes that wait for them."""

STREAMED_STEP_BYTES = 8 << 20
"""Bytes that must arrive within the time limit of a body."""

SLOW_STORE = "slow store"
"""A reason to pause reading from the client: the store is slower than the client."""


class StreamedBody(BodyStream):
    """A body stream with a budget and a time limit.

    Args:
        reading: the reading of the client's connection.
        reserved: the memory budget.
        seconds: the time for each step of STREAMED_STEP_BYTES. Time in which the client is paused is not counted.
        refuse: is called when the client exceeds the time.
    """

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

    def receive(self, data: bytes | bytearray, *, complete: bool) -> None:
        """Add bytes that have arrived. Raises Refused if there is no room for them."""
        step, self._size = self._size // STREAMED_STEP_BYTES, self._size + len(data)
        if not self._reserved.resize(min(self._size, STREAMED_BYTES)):
            raise Refused(errors.TOO_MANY_WAITING)
        self.feed(data)
        if complete:
            self._end_step()
            self.end()
        elif step < self._size // STREAMED_STEP_BYTES and not self.paused:
            self._begin_step()

    def close(self) -> None:
        """Stop the time limit, and read on, so that the client finishes writing and reads its answer."""
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
