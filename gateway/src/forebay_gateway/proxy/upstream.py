"""Copies a request's bytes to a pod and the answer's bytes back, for pod_relay. It parses only the head of an answer.

The exception is LateUpstream, which turns an answer that is no stream into one event.

The gateway asks the pod to close its connection after the answer. So the end of the connection is the end of the
answer. A slow client pauses the reading from the pod. A client that disconnects ends the pod's connection, and so the
generation.
"""

import asyncio
import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from http import HTTPStatus
from typing import Protocol, cast

from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.fairness.scheduler import LARGE_READ_BYTES, Reader
from forebay_gateway.http import errors
from forebay_gateway.http.errors import Refused
from forebay_gateway.http.messages import LAST_CHUNK, chunk, end_connection, read_status, switch_protocols
from forebay_gateway.http.sockets import SOCKET_BUFFER, keep_alive
from forebay_protocol.errors import ApiDialect

WAITS_FOR_TURN = "turn"
"""The reason to pause reading until the tenant's next turn."""

HIGH_WATER = 64 << 10
"""Bytes that wait for a pod above which its client is paused, until the pod has taken all of them."""

MAX_ANSWER_HEAD_BYTES = 64 << 10
"""Bytes of an answer's head, with the informational heads (1xx) before it."""

MAX_EVENT_ANSWER_BYTES = 1 << 20
"""Bytes of a pod's answer that becomes one event of a stream."""


_INFORMS = (b"http/1.1 1", b"http/1.0 1")
"""The beginning of an informational head (1xx), in lower case. The answer follows it."""

END_OF_HEAD = b"\r\n\r\n"
"""The bytes that end a head."""


class AnswerState(Enum):
    """The state of the pod's answer."""

    AWAITING_HEAD = auto()
    """The client has received nothing."""
    COLLECTING = auto()
    """The head has arrived. The body is collected, and the client gets it as one event at the end."""
    RELAYING = auto()
    """The client has received the head. All further bytes go to the client unchanged."""
    SWITCHED = auto()
    """As RELAYING, and the connection is a web socket now."""
    COLLECTED = auto()
    """The client has received the collected answer as one event."""
    FAILED = auto()
    """The answer is invalid. The client gets no more of it."""


class Sink(Protocol):
    """The receiver of an answer: the client's connection."""

    def write(self, data: bytes) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def wait_for_turn(self, callback: Callable[[], None]) -> None: ...


_RELAYING = frozenset({AnswerState.RELAYING, AnswerState.SWITCHED})
_COLLECTING = frozenset({AnswerState.AWAITING_HEAD, AnswerState.COLLECTING})


class Upstream(asyncio.Protocol):
    """A connection to a pod.

    It changes only the head of the answer: it must end the client's connection. Further bytes of the client
    must not reach this pod, even if a proxy shares that connection between clients.

    Attributes:
        web_socket: whether the request asks for a web socket.
        worker: the pod's name, for the head of the answer; "" if it is unknown.
        reader: the reading from the pod.
        sent: is done when the pod has taken the whole request, or has disconnected.
        ended: is done when the connection is over. Its result is the error, or None.
    """

    def __init__(self, client: Sink, *, web_socket: bool = False, worker: str = "") -> None:
        self._client = client
        self._write = client.write
        self._state = AnswerState.AWAITING_HEAD
        self.answered = False
        """Whether the client has received a byte of the answer."""
        self._web_socket = web_socket
        self._worker = worker
        self._write_seconds = 0.0
        self._watching: asyncio.TimerHandle | None = None
        self._left: socket.socket | None = None
        """A second descriptor of the pod's connection, while a large body is being written."""
        self._head = b""
        self._informed = 0
        self.sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    @property
    def switched(self) -> bool:
        """Whether the connection is a web socket now."""
        return self._state is AnswerState.SWITCHED

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        keep_alive(connection := self.transport.get_extra_info("socket"))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        self.transport.set_write_buffer_limits(high=HIGH_WATER, low=0)
        self.reader = Reader(self.transport)
        asyncio.get_running_loop().call_soon(self._take_turn)  # once the transport has begun to read

    def _take_turn(self) -> None:
        self.reader.pause(WAITS_FOR_TURN)
        self._client.wait_for_turn(partial(self.reader.release, WAITS_FOR_TURN))

    def send(self, head: bytes, body: bytes | bytearray, seconds: float) -> None:
        """Write the request. The connection ends if the pod takes no bytes for `seconds`."""
        self._write_seconds = seconds
        if len(body) > SOCKET_BUFFER:
            with suppress(OSError):  # without a free descriptor, writing is not watched
                self._left = socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))
        self.transport.writelines([head, body])
        self._watch_writing()

    def _watch_writing(self, before: int = 0) -> None:
        """End the connection if the pod takes no bytes. `before`: the bytes that were left at the last check."""
        self._stop_watching()
        left = self.transport.get_write_buffer_size()
        if not left:
            self._finish_sending()
        elif left == before:
            self._fail(Refused(errors.REQUEST_NOT_ACCEPTED))
        else:
            self._watching = asyncio.get_running_loop().call_later(self._write_seconds, self._watch_writing, left)

    def _stop_watching(self) -> None:
        if self._watching:
            self._watching.cancel()
            self._watching = None

    def _finish_sending(self) -> None:
        if not self.sent.done():
            self.sent.set_result(None)

    def data_received(self, data: bytes) -> None:
        if len(data) > LARGE_READ_BYTES:
            self._take_turn()
        if self._state in _RELAYING:
            self._pass(data)
        elif not self.ended.done():  # otherwise these bytes arrived after the answer had failed
            self._begin(data)

    def _begin(self, data: bytes) -> None:
        """Handle bytes that may belong to the head."""
        try:
            data = self._read_head(self._head + data)
        except ValueError:
            self._fail(Refused(errors.BAD_ANSWER))
            return
        if data:
            self.answered = True
            self._pass(data)

    def _read_head(self, received: bytes) -> bytes:
        """Read the answer's head. Returns the bytes for the client, b"" while the head is incomplete.

        Raises ValueError if it is not a valid answer.

        Informational answers (1xx) are dropped. The gateway has answered Expect itself. A proxy can take such an answer
        for the final one and reuse its connection (nginx 1.22 does, after HEAD).
        """
        self._head = b""
        while b"\r\n\r\n" in received:
            head, _, received = received.partition(b"\r\n\r\n")
            status = read_status(head)
            if status == HTTPStatus.SWITCHING_PROTOCOLS:
                if not self._web_socket:
                    raise ValueError("no web socket was asked for")
                self._state = AnswerState.SWITCHED
                return switch_protocols(head, self._worker) + b"\r\n\r\n" + received
            if status >= HTTPStatus.OK:
                self._state = AnswerState.RELAYING
                return end_connection(head, self._worker) + b"\r\n\r\n" + received
            self._informed += len(head)
        if len(received) + self._informed > MAX_ANSWER_HEAD_BYTES:
            raise ValueError("the head of the answer is too long")
        self._head = received
        return b""

    def _pass(self, data: bytes) -> None:
        try:
            self._write(data)
        except RuntimeError:  # uvloop raises it if it has just closed the client's connection
            self.transport.abort()

    def _fail(self, error: Exception) -> None:
        """End the connection with this error, because the answer is invalid."""
        self._state = AnswerState.FAILED
        if not self.ended.done():
            self.ended.set_result(error)
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_watching()
        self._finish_sending()
        if self._left:
            with self._left:
                if error and not self.ended.done() and self._read_left(self._left):
                    error = None
        if not self.ended.done():
            self.ended.set_result(error)

    def _read_left(self, connection: socket.socket) -> bool:
        """Read the answer of a pod that answered before it had read the whole body. Returns whether there was such an
        answer.

        Such a pod closes the connection, so the next write fails while the kernel may still hold its answer.
        """
        with suppress(OSError):
            while data := connection.recv(SOCKET_BUFFER):
                self.data_received(data)
        return self.answered

    def pause_writing(self) -> None:
        self._client.pause_reading()
        self._watch_writing()

    def resume_writing(self) -> None:
        self._stop_watching()
        self._finish_sending()
        self._client.resume_reading()


class LateUpstream(Upstream):
    """A connection to a pod for a client that has already received the head of a stream and comments.

    A streamed answer comes in chunks too, so its body is passed on unchanged. Any other answer becomes one event: its
    error or its JSON.
    """

    def __init__(self, client: Sink, api: ApiDialect) -> None:
        super().__init__(client)
        self._api = api
        self._received = bytearray()

    def _begin(self, data: bytes) -> None:
        looked = max(0, len(self._received) - len(END_OF_HEAD) + 1)
        self._received += data
        while self._state is AnswerState.AWAITING_HEAD and (end := self._received.find(END_OF_HEAD, looked)) >= 0:
            head = bytes(self._received[:end]).lower()
            if not head.startswith(_INFORMS):
                self._state = AnswerState.COLLECTING
                lines = head.split(b"\r\n")
                if lines[0].split()[1:2] == [b"200"] and b"transfer-encoding: chunked" in lines:
                    self._state, self.answered = AnswerState.RELAYING, True
                    self._pass(bytes(self._received[end + len(END_OF_HEAD) :]))
                    self._received = bytearray()
                    return
            else:
                del self._received[: end + len(END_OF_HEAD)]
                looked = 0
        if len(self._received) > (
            MAX_EVENT_ANSWER_BYTES if self._state is AnswerState.COLLECTING else MAX_ANSWER_HEAD_BYTES
        ):
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        try:
            if self._state in _COLLECTING and self._received:
                self._state, self.answered = AnswerState.COLLECTED, True
                self._client.write(chunk(_as_event(bytes(self._received), self._api)) + LAST_CHUNK)
        finally:
            super().connection_lost(error)


def _as_event(answer: bytes, api: ApiDialect) -> bytes:
    head, _, body = answer.partition(END_OF_HEAD)
    try:
        status = read_status(head)
        if status == HTTPStatus.OK:
            return b"data: %s\n\n" % json.dumps(json.loads(body)).encode()
    except (ValueError, RecursionError):
        return errors.NO_ANSWER.event(api)
    return errors.of_pod(status, body).event(api)


async def connect(upstream: Upstream, pod: Address, seconds: float) -> None:
    """Connect to a pod. Raises OSError, including TimeoutError, if it accepts no connection."""
    async with asyncio.timeout(seconds):
        await asyncio.get_running_loop().create_connection(lambda: upstream, pod.host, pod.port)
