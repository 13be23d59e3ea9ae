"""A pod of an endpoint, as the gateway sees it: an API port and an ops port, on an address that is not loopback, since
Kubernetes accepts no other in an EndpointSlice."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

from tests.integration.listening import stop_listening

Answer = Callable[["Exchange"], Coroutine[Any, Any, None]]

TEXT = "The dam stood below the last bend of the river."


def own_address() -> str:
    """An address of this machine that others could reach; no packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


class Exchange:
    """One request that the pod has got, and the way to answer it."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = head
        self.reader = reader
        self.writer = writer
        self.body = b""

    async def read_body(self) -> bytes:
        lines = self.head.lower().split(b"\r\n")
        length = next((line.split(b":")[1] for line in lines if line.startswith(b"content-length")), b"0")
        self.body = await self.reader.readexactly(int(length))
        return self.body

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


class CannedPod:
    """Answers by `answer`, which a test may put in place; `ready` is what its ops port says."""

    def __init__(self, port: int = 0, ops_port: int = 0, *, ready: bool = True) -> None:
        self.host = own_address()
        self.port = port
        self.ops_port = ops_port
        self.ready = ready
        self.answer: Answer = complete
        self.requests: list[Exchange] = []
        self.probes = 0
        """The number of requests to its ops port."""
        self.left = threading.Event()
        """Set when a client went away before it had its answer."""
        self._serving: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "CannedPod":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        self._api = await asyncio.start_server(self._serve, self.host, self.port, limit=1 << 26)
        self._ops = await asyncio.start_server(self._probe, self.host, self.ops_port)
        self.port = self._api.sockets[0].getsockname()[1]
        self.ops_port = self._ops.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        await stop_listening([*self._api.sockets, *self._ops.sockets])
        self._api.close()
        self._ops.close()
        while accepting := asyncio.all_tasks() - self._serving - {asyncio.current_task()}:
            await asyncio.wait(accepting, timeout=0.01)  # to cancel them would leave their connections open
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for writer in self._writers:
            if not writer.transport.is_closing() or writer.transport.get_write_buffer_size():
                writer.transport.abort()  # a peer that does not read would keep it open
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    def _begin(self, writer: asyncio.StreamWriter) -> None:
        """Count a connection and the task that serves it."""
        self._writers.append(writer)
        task = asyncio.current_task()
        assert task
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(writer)
        exchange = Exchange(b"", reader, writer)
        try:
            exchange.head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(exchange)
            await self.answer(exchange)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        except asyncio.CancelledError:
            return  # the pod ends
        finally:
            writer.close()

    async def _probe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._begin(writer)
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.probes += 1
            status = b"200 OK" if self.ready else b"503 Service Unavailable"
            writer.write(b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # who asked went away, or the pod ends
        finally:
            writer.close()


async def complete(exchange: Exchange) -> None:
    """A chat completion, streamed or not, as requested."""
    request = json.loads(await exchange.read_body() or b"{}")
    if request.get("stream"):
        await stream(exchange)
    else:
        message = {"role": "assistant", "content": TEXT}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        await reply(exchange, 200, {**ENVELOPE, "object": "chat.completion", "choices": [choice]})


ENVELOPE = {"id": "chatcmpl-1", "created": 1780000000, "model": "org/model"}


async def reply(exchange: Exchange, status: int, content: object) -> None:
    body = json.dumps(content).encode()
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
    await exchange.send(head % (status, len(body)) + body)


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
)


async def stream(
    exchange: Exchange, pause: float = 0.0, end: bool = True, may_end: threading.Event | None = None
) -> None:
    """A streamed chat completion, a word a chunk; it ends on a signal of the test."""
    await exchange.send(STREAM_HEAD)
    for word in TEXT.split():
        await exchange.send(event(word + " "))
        await asyncio.sleep(pause)
    if may_end:
        await asyncio.to_thread(may_end.wait, 60)
    if end:
        await exchange.send(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def event(text: str) -> bytes:
    """One event of a streamed chat completion, as a chunk."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    content = {**ENVELOPE, "object": "chat.completion.chunk", "choices": [choice]}
    return _chunk(b"data: %s\n\n" % json.dumps(content).encode())


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
