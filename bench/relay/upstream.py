"""A canned upstream: streams chat completions of ten chunks a second from one process, cheaply.

Each chunk's text is "@STREAM:NUMBER:STAMP ", with the stream as the request's prompt named it, the chunk's number in it
and the monotonic clock in microseconds when it was written, so that the client can check order, loss and delay.
"""

import asyncio
import re
import sys
import time
from typing import cast

import uvloop

CHUNKS_PER_SECOND = 10
SLOTS = 50
"""Streams tick in this many groups, so that the chunks are evenly spread: one group every 2 ms."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_PROMPT = re.compile(rb"stream (\d+) of (\d+) chunks")

_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"x-request-id: %s\r\n%stransfer-encoding: chunked\r\n\r\n"
)
_EVENT = (
    b'data: {"id":"chatcmpl-%s","object":"chat.completion.chunk","created":1780000000,"model":"canned","choices":'
    b'[{"index":0,"delta":{"content":"@%s:%d:%d "},"logprobs":null,"finish_reason":null}]}\n\n'
)
_LAST = (
    b'data: {"id":"chatcmpl-%s","object":"chat.completion.chunk","created":1780000000,"model":"canned","choices":'
    b'[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
_MODELS = b'{"object":"list","data":[{"id":"canned","object":"model","created":1780000000,"owned_by":"bench"}]}'


class Wheel:
    """A timer wheel: calls `tick` of each stream ten times a second."""

    def __init__(self) -> None:
        self.slots: list[set[Upstream]] = [set() for _ in range(SLOTS)]
        self.now = 0
        self._loop = asyncio.get_running_loop()
        self._period = 1.0 / CHUNKS_PER_SECOND / SLOTS
        self._due = self._loop.time()
        self._tick()

    def _tick(self) -> None:
        while self._due <= self._loop.time():
            self._due += self._period
            self.now = (self.now + 1) % SLOTS
            for stream in tuple(self.slots[self.now]):
                stream.tick()
        self._loop.call_later(max(self._due - self._loop.time(), 0.001), self._tick)  # uvloop rounds down to 0


class Upstream(asyncio.Protocol):
    """One connection: requests one after the other, each answered by a stream or by the list of models."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._received = b""
        self._slot = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, _: Exception | None) -> None:
        self._leave()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if separator and len(body) >= (int(length[1]) if length else 0):
            self._received = b""
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        self._close = bool(_CLOSE.search(head))
        if not (prompt := _PROMPT.search(body)):
            reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            self._transport.write(reply % (len(_MODELS), _MODELS))
            return
        self._id, self._left, self._number = prompt[1], int(prompt[2]), 0
        self._transport.write(_HEAD % (self._id, b"connection: close\r\n" if self._close else b""))
        self._slot = self._wheel.now
        self._wheel.slots[self._slot].add(self)
        self.tick()

    def tick(self) -> None:
        """Write the next chunk, or the end."""
        if self._left:
            self._left -= 1
            event = _EVENT % (self._id, self._id, self._number, time.monotonic_ns() // 1000)
            self._number += 1
            self._transport.write(b"%x\r\n%s\r\n" % (len(event), event))
            return
        self._leave()
        last = _LAST % self._id
        self._transport.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(last), last))
        if self._close:
            self._transport.close()

    def _leave(self) -> None:
        if self._slot >= 0:
            self._wheel.slots[self._slot].discard(self)
            self._slot = -1


async def main(port: int) -> None:
    wheel = Wheel()
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(wheel), "0.0.0.0", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
