"""Sends requests to vLLM's app from within this process: warm-up requests and the requests of jobs.

Warm-up and job transport call it, so neither needs a socket or a key.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from forebay_server.asgi import App, Message, Scope

STOP_TIMEOUT = 5.0
"""Seconds that a request that is ended early may take to stop. vLLM stops generating when the client disconnects. After
a cancellation it would go on generating in a separate task."""


@dataclass(frozen=True)
class AppReply:
    """An answer whose body may not be complete yet."""

    status: int
    content_type: str
    body: AsyncIterator[bytes]

    @property
    def is_stream(self) -> bool:
        """Whether the body consists of server-sent events."""
        return self.content_type.startswith("text/event-stream")

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([piece async for piece in self.body])


@asynccontextmanager
async def open_request(app: App, scope: Scope, body: bytes) -> AsyncIterator[AppReply]:
    """Send the request that `scope` describes to `app`. Leaving the context ends the request, finished or not.

    Until then the client counts as connected. vLLM aborts a request whose client has disconnected, and answers it with
    200 and null. Raises what the app raises, and RuntimeError if it ends without an answer.
    """
    requests: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    messages: asyncio.Queue[Message | None] = asyncio.Queue()
    disconnected = asyncio.Event()

    async def receive() -> Message:
        if requests:
            return requests.pop()
        await disconnected.wait()
        return {"type": "http.disconnect"}

    async def put(message: Message) -> None:
        if disconnected.is_set():
            raise OSError("The client has disconnected.")
        messages.put_nowait(message)

    running = asyncio.ensure_future(app(scope, receive, put))
    running.add_done_callback(lambda _: messages.put_nowait(None))
    try:
        head = await messages.get()
        if head is None:
            await running  # raises what the app raised
            raise RuntimeError("The application ended without an answer.")
        types = [value for name, value in head.get("headers", ()) if name.lower() == b"content-type"]
        yield AppReply(head["status"], types[0].decode("latin-1") if types else "", _body(messages, running))
    finally:
        disconnected.set()
        try:
            await asyncio.wait((running,), timeout=STOP_TIMEOUT)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def content_headers(body: bytes, content_type: str = "application/json") -> list[tuple[bytes, bytes]]:
    """The headers for `body`; none for an empty body."""
    if not body:
        return []
    return [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]


async def _body(messages: asyncio.Queue[Message | None], running: asyncio.Future[None]) -> AsyncIterator[bytes]:
    while message := await messages.get():
        if piece := message.get("body", b""):
            yield piece
        if not message.get("more_body", False):
            return
    await running
