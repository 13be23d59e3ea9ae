"""The way of a request's bytes to a pod and of the answer's bytes back, which nobody looks at.

The pod is asked to close its connection after the answer, so the end of the answer is the end of the connection,
whatever its form. A slow client stops the reading from the pod. A client that leaves ends the pod's connection, and
with it the generation.
"""

import asyncio
import json
import socket
from typing import Protocol, cast

from forebay_gateway import errors
from forebay_gateway.endpoint import Address
from forebay_gateway.errors import Api
from forebay_gateway.head import LAST_CHUNK, chunk

KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""Seconds, seconds and times after which a machine that went away without a word counts as gone."""

LONGEST_REPLY = 1 << 20
"""Bytes of a pod's answer that is told as an event."""


class Sink(Protocol):
    """Where an answer goes: the client's connection."""

    def write(self, data: bytes) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Upstream(asyncio.Protocol):
    """A connection to a pod. `ended` gets its result, the error or None, when it is over."""

    def __init__(self, client: Sink) -> None:
        self._client = client
        self.answered = False
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        keep_alive(self.transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        self.answered = True
        try:
            self._client.write(data)
        except RuntimeError:  # as uvloop says of a client's connection that it closed in this very moment
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(error)

    def pause_writing(self) -> None:
        self._client.pause_reading()

    def resume_writing(self) -> None:
        self._client.resume_reading()


class LateUpstream(Upstream):
    """A connection to a pod for a client that has got a head and comments already, in chunks.

    A streamed answer comes in chunks too, so after its head everything passes as it is. Any other answer becomes one
    event: its error, or its JSON.
    """

    def __init__(self, client: Sink, api: Api) -> None:
        super().__init__(client)
        self._api = api
        self._received = b""
        self._passes = False

    def data_received(self, data: bytes) -> None:
        if self._passes:
            super().data_received(data)
            return
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        if separator and lines[0].split()[1:2] == [b"200"] and b"transfer-encoding: chunked" in lines:
            self._passes = True
            self._received = b""
            super().data_received(rest)
        elif len(self._received) > LONGEST_REPLY:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._passes and self._received:
            self.answered = True
            self._client.write(chunk(_as_event(self._received, self._api)) + LAST_CHUNK)
        super().connection_lost(error)


def _as_event(answer: bytes, api: Api) -> bytes:
    head, _, body = answer.partition(b"\r\n\r\n")
    word = head.split()[1:2]
    status = int(word[0]) if word and word[0].isdigit() else 502
    if status != 200:
        return errors.of_pod(status, body).event(api)
    try:
        return b"data: %s\n\n" % json.dumps(json.loads(body)).encode()
    except ValueError:
        return errors.NO_ANSWER.event(api)


def keep_alive(connection: socket.socket) -> None:
    """Have the kernel look whether the other end still is there."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


async def connect(upstream: Upstream, pod: Address, seconds: float) -> None:
    """Connect to a pod. Raises OSError, TimeoutError included, where it takes no connection."""
    async with asyncio.timeout(seconds):
        await asyncio.get_running_loop().create_connection(lambda: upstream, pod.host, pod.port)
