"""The connection of a client: one request, one answer, then the end, within limits. The handler decides the answer."""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, cast

from forebay_gateway.endpoints.key_refresh import PEEKED_BYTES
from forebay_gateway.fairness.budgets import Budgets
from forebay_gateway.fairness.quotas import UNCOUNTED_BYTES, Reservation
from forebay_gateway.fairness.scheduler import LARGE_READ_BYTES, Reader
from forebay_gateway.http import errors
from forebay_gateway.http.body_stream import BodyStream
from forebay_gateway.http.errors import Refused
from forebay_gateway.http.messages import (
    LAST_CHUNK,
    OPEN_TO_PAGES,
    REQUEST_ID,
    STREAM_HEAD,
    Head,
    chunk,
    render_answer,
    render_head,
)
from forebay_gateway.http.parser import BodyLimit, RequestReader
from forebay_gateway.http.sockets import SOCKET_BUFFER, keep_alive
from forebay_gateway.metrics import ANSWERS, CONNECTIONS
from forebay_gateway.proxy.admission import Admission, api_of
from forebay_gateway.proxy.connection_quota import ConnectionQuota
from forebay_gateway.proxy.connection_state import ConnectionState
from forebay_gateway.proxy.streamed_body import StreamedBody
from forebay_gateway.proxy.upstream import WAITS_FOR_TURN, Upstream
from forebay_gateway.proxy.write_watch import WriteWatch, not_connected
from forebay_kube.endpoint_key import EndpointKey
from forebay_protocol import request_id
from forebay_protocol.errors import SLOW_BODY, WRONG_KEY, ApiError

logger = logging.getLogger(__name__)

LINGER_SECONDS = 5.0
"""Seconds for which a refused request is still read. If it were not read, a client that is still writing would see
a connection reset."""

SLOW_CLIENT, SLOW_POD = "slow client", "slow pod"
"""Reasons to pause the reading from the other side."""


class ClientConnection(asyncio.Protocol):
    """The connection of one client.

    Args:
        port: the endpoint to whose own port the client connected; None for the shared port.
        budgets: the budgets that all clients share.
        connections: all open connections. This one adds itself, and removes itself at its end.
        body_limit: returns the limit of the body for a head.
        admit: decides from the head alone, before the body is read. Raises Refused.
        peek: looks for the model in the beginning of a body. Returns whether it found one.
        serve: answers a complete request, or one whose body is processed while it arrives. Raises Refused.
    """

    def __init__(
        self,
        port: EndpointKey | None,
        budgets: Budgets,
        connections: "set[ClientConnection]",
        *,
        admit: Callable[[EndpointKey | None, Head], Admission],
        body_limit: Callable[[Head], BodyLimit],
        peek: Callable[[bytes | bytearray], bool],
        serve: "Callable[[ClientConnection, Admission], Awaitable[None]]",
    ) -> None:
        self._port = port
        self._budgets = budgets
        self._limits = budgets.limits
        self._connections = connections
        self._admit_request = admit
        self._peek_model = peek
        self._serve_request = serve
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(budgets.limits.head_bytes, body_limit)
        self._admission: Admission | None = None
        self._task: asyncio.Task[None] | None = None
        self._upstream: Upstream | None = None
        self._body: Reservation | None = None
        self._stream: StreamedBody | None = None
        self._unsent: Reservation | None = None
        self._quota = ConnectionQuota(budgets)
        self.tenant = ""
        """The namespace that the request is counted for, or the client's address while no namespace is known."""
        self._source = ""
        self._state = ConnectionState.READING
        self._slow = False
        self._writable = asyncio.Event()
        self._peeked: bytearray | None = None
        self.write = not_connected

    @property
    def busy(self) -> bool:
        """Whether a complete request is being answered."""
        return self._task is not None and not self._task.done()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self.write = self._transport.write
        keep_alive(connection := self._transport.get_extra_info("socket"))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        self._reading = Reader(self._transport)
        self._writing = WriteWatch(self._transport, self._limits.write_seconds)
        self._connections.add(self)
        CONNECTIONS.inc()
        self._timer = self._loop.call_later(self._limits.head_seconds, self._too_slow)
        source = str((self._transport.get_extra_info("peername") or ("::",))[0])
        if len(self._connections) > self._limits.connections or not self._quota.acquire_for_source(source):
            self.fail(errors.BUSY)
            self._transport.close()  # without reading anything
        else:
            self._source = source
            self._loop.call_soon(self._take_turn)  # once the transport has begun to read

    def connection_lost(self, _: Exception | None) -> None:
        self._connections.discard(self)
        CONNECTIONS.dec()
        self._timer.cancel()
        self._writing.end()
        if self._stream:
            self._stream.close()
        if self._task and not self._task.done():
            ANSWERS.labels("left").inc()
            self._task.cancel()
        self.drop_body()
        self._reserve_unsent(0)
        self._quota.release()

    def data_received(self, data: bytes) -> None:
        if len(data) > LARGE_READ_BYTES:
            self._take_turn()
        if self._upstream is not None and self._upstream.switched:
            self._upstream.transport.write(data)
        elif self._state is ConnectionState.READING:
            try:
                self._read(data)
            except Refused as refused:
                if refused.error is WRONG_KEY and self._port is None:
                    self._peeked = bytearray()
                    self._peek(self._reader.body)
                self._refuse(refused)
        elif self._peeked is not None:
            self._peek(data)

    def _peek(self, data: bytes | bytearray) -> None:
        """Look for the model in the beginning of the body of a request with an unknown API key."""
        if self._peeked is not None:
            self._peeked += data[: PEEKED_BYTES - len(self._peeked)]
            if self._peek_model(self._peeked) or len(self._peeked) == PEEKED_BYTES:
                self._peeked = None

    def pause_writing(self) -> None:
        """Count the bytes that the client has not taken yet, until the client has taken them."""
        self._slow = True
        self._writable.clear()
        self._writing.begin()
        if self._upstream:
            self._upstream.reader.pause(SLOW_CLIENT)
        if not self._reserve_unsent(self._transport.get_write_buffer_size() + 4 * SOCKET_BUFFER):
            self._transport.abort()

    def resume_writing(self) -> None:
        self._slow = False
        self._writable.set()
        self._reserve_unsent(0)
        if self._upstream:
            self._upstream.reader.release(SLOW_CLIENT)

    def pause_reading(self) -> None:
        """Stop reading from the client while the pod takes no more bytes of a web socket or of a long body."""
        self._reading.pause(SLOW_POD)

    def resume_reading(self) -> None:
        self._reading.release(SLOW_POD)

    def _take_turn(self) -> None:
        self._reading.pause(WAITS_FOR_TURN)
        self.wait_for_turn(partial(self._reading.release, WAITS_FOR_TURN))

    def wait_for_turn(self, callback: Callable[[], None]) -> None:
        """Call `callback` when this client's tenant may have another large read."""
        self._budgets.scheduler.wait(self.tenant or self._source, callback)

    def attach(self, upstream: Upstream) -> None:
        """Let `upstream` write the answer from now on. The request's body uses the budget until the pod has read it."""
        self._upstream = upstream
        self._state = ConnectionState.RELAYING_IN_STREAM if self.streams else ConnectionState.RELAYING
        upstream.sent.add_done_callback(lambda _: self.drop_body())
        if self._slow:
            upstream.reader.pause(SLOW_CLIENT)

    def release(self) -> None:
        """Let the gateway write the answer again: the pod disconnected before the first byte of its answer."""
        self._upstream = None
        self._state = ConnectionState.STREAMING if self.streams else ConnectionState.WAITING

    @property
    def streams(self) -> bool:
        """Whether the client has received the head of a stream from the gateway."""
        return self._state in (ConnectionState.STREAMING, ConnectionState.RELAYING_IN_STREAM)

    def comment(self, text: str) -> None:
        """Write the progress as a comment (server-sent events). The first comment begins the stream."""
        head = b""
        if not self.streams:
            self._state = ConnectionState.STREAMING
            origin = "".join(f"{line}\r\n" for line in OPEN_TO_PAGES if self._origin).encode()
            head = STREAM_HEAD % (self._request_id.encode(), origin)
        self.write(head + chunk(f": {text}\n\n".encode()))

    def answer(self, status: int, content: Any, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Answer the request completely, with JSON."""
        bodiless = self._reader.head is not None and self._reader.head.method == "HEAD"
        headers = ((request_id.HEADER, self._request_id), *headers)
        head, body = render_answer(status, content, headers, origin=self._origin, bodiless=bodiless)
        if len(body) > UNCOUNTED_BYTES and not self._reserve_unsent(len(body)):
            self.fail(errors.TOO_MANY_WAITING)
            return
        ANSWERS.labels(str(status)).inc()
        self.write(head)
        if body:
            self.write(body)
        self._state = ConnectionState.ANSWERED
        self.end()

    async def answer_in_pieces(self, content_type: str, size: int, pieces: AsyncGenerator[bytes, None]) -> None:
        """Answer with `size` bytes, piece by piece as the client takes them. Only the first piece may raise Refused."""
        async with aclosing(pieces):
            piece = await anext(pieces, b"")
            bodiless = self._reader.head is not None and self._reader.head.method == "HEAD"
            headers = ((request_id.HEADER, self._request_id), ("content-type", content_type))
            ANSWERS.labels("200").inc()
            self.write(render_head(200, headers, size=size, origin=self._origin))
            self._state = ConnectionState.ANSWERED
            while piece and not bodiless:
                self.write(piece)
                if self._slow:
                    await self._writable.wait()
                piece = await anext(pieces, b"")
        self.end()

    def fail(self, error: ApiError) -> None:
        """Report the error, in the way that is still possible."""
        api = self._admission.api if self._admission else api_of(self._reader.head, shared=self._port is None)
        self.drop_body()
        if self._transport.is_closing():
            return
        if self._state is ConnectionState.STREAMING:
            ANSWERS.labels(f"event {error.status}").inc()
            self.write(chunk(error.event(api)) + LAST_CHUNK)
            self.end()
        elif self._state is ConnectionState.ANSWERED or (self._upstream and (self.streams or self._upstream.answered)):
            self._transport.abort()
        else:
            self.answer(error.status, error.content(api), error.headers)

    def end(self) -> None:
        """Close once everything is written. If the request was not read completely, the client first gets time to
        read."""
        self._timer.cancel()
        if self._stream:
            self._stream.close()
        self._writing.begin()
        if self._reader.complete or self._transport.is_closing():
            self._transport.close()
        else:
            self._transport.write_eof()
            self._timer = self._loop.call_later(LINGER_SECONDS, self._transport.abort)

    def detach(self, error: Exception | None) -> None:
        """End the connection after the pod's answer, which ended with an error or normally (None)."""
        if error:
            self._transport.abort()
        else:
            self.end()

    def take_body(self) -> bytearray:
        """Hand the request's body over to the caller, so that its memory is free as soon as it is written."""
        return self._reader.take_body()

    def body_to_read(self) -> bytearray | BodyStream:
        """The request's body: complete, or as a stream if it is processed while it arrives."""
        return self._stream or self.take_body()

    def drop_body(self) -> None:
        """Free the request's body."""
        if self._body:
            self._body.resize(0)
        self._reader.body = bytearray()

    def _reserve_unsent(self, size: int) -> bool:
        """Reserve `size` bytes that wait for the client. Returns whether there is room for them."""
        return self._unsent is None or self._unsent.resize(size)

    def _admit(self, head: Head) -> Admission:
        """Decide from the head. From now on the connection is counted for its tenant. Raises Refused."""
        admission = self._admit_request(self._port, head)
        self.tenant = admission.tenant or self._source
        self._body = Reservation(self._budgets.bodies, self.tenant)
        self._unsent = Reservation(self._budgets.answers, self.tenant)
        if admission.known and not self._quota.acquire_for_tenant(self.tenant):
            raise Refused(errors.BUSY)
        return admission

    def charge(self, namespace: str) -> None:
        """Count the request for this namespace from now on. Raises Refused if the namespace has no room."""
        if self.tenant == namespace:
            return
        if not self._quota.move(namespace):
            raise Refused(errors.BUSY)
        self.tenant = namespace
        for reservation in (self._body, self._unsent):
            if reservation and not reservation.move(namespace):
                raise Refused(errors.TOO_MANY_WAITING)

    async def ended(self) -> None:
        """Wait until the request is answered, with or without success."""
        if self._task:
            await asyncio.wait({self._task})

    def cancel(self) -> None:
        """End the request immediately, because the process stops."""
        if self._task:
            self._task.cancel()
        if self.busy or self._reader.began:
            self.fail(errors.DRAINING)
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close immediately. Bytes that the client has not taken yet are lost."""
        self._transport.abort()

    @property
    def _origin(self) -> bool:
        return self._reader.head is not None and bool(self._reader.head.get(b"origin"))

    @property
    def _request_id(self) -> str:
        if self._admission:
            return self._admission.request_id
        return request_id.choose_id(self._reader.head.get(REQUEST_ID) if self._reader.head else "")

    def _read(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        if reader.head is None:
            return
        if self._admission is None:
            self._admission = self._admit(reader.head)
            self._timer.cancel()
            self._timer = self._loop.call_later(self._limits.body_seconds, self._too_slow)
            if not reader.complete and reader.head.get(b"expect").lower() == "100-continue":
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if self._admission.streams_body and self._body:
                self._timer.cancel()
                self._stream = StreamedBody(self._reading, self._body, self._limits.body_seconds, self._refuse)
                self._task = self._loop.create_task(self._serve(self._admission))
        if self._stream:
            if reader.complete:
                self._state = ConnectionState.WAITING
            self._stream.receive(reader.take_body(), complete=reader.complete)
            return
        if self._body and not self._body.resize(len(reader.body)):
            raise Refused(errors.TOO_MANY_WAITING)
        if reader.complete:
            self._timer.cancel()
            self._state = ConnectionState.WAITING
            self._task = self._loop.create_task(self._serve(self._admission))

    def _refuse(self, refused: Refused) -> None:
        """Refuse the request. If a task reads its body, that task gets the error first and reports it."""
        if self._stream and self.busy:
            self._state = ConnectionState.WAITING
            self._stream.fail(refused)
        else:
            self.fail(refused.error)

    async def _serve(self, admission: Admission) -> None:
        try:
            await self._serve_request(self, admission)
        except Refused as refused:
            self.fail(refused.error)
        except Exception:
            logger.exception("a request failed")
            self.fail(errors.INTERNAL)

    def _too_slow(self) -> None:
        if self._reader.began:
            self.fail(errors.SLOW_HEAD if self._reader.head is None else SLOW_BODY)
        else:
            self._transport.close()
