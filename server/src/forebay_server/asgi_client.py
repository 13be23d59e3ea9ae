"""A request to vLLM's app from within this process: the server's own at the start, and those of jobs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from forebay_server.asgi import App, Message, Scope

LEAVE_SECONDS = 5.0
"""How long a request that is ended early may take to notice. vLLM ends what it generates when the client disconnects;
a cancelled request would go on generating in a task of its own."""


@dataclass(frozen=True)
class AppReply:
    """An answer whose body may still be on its way."""

    status: int
    content_type: str
    body: AsyncIterator[bytes]

    @property
    def is_stream(self) -> bool:
        return self.content_type.startswith("text/event-stream")

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([piece async for piece in self.body])


@asynccontextmanager
async def asked(app: App, scope: Scope, body: bytes) -> AsyncIterator[AppReply]:
    """Send the request that `scope` describes to `app`. To leave the context ends the request, finished or not.

    Until then the client is there: vLLM gives up a request whose client has gone, and answers it with 200 and null.
    Raises what the app raises, and RuntimeError when it ends without an answer.
    """
    requests: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    messages: asyncio.Queue[Message | None] = asyncio.Queue()
    gone = asyncio.Event()

    async def receive() -> Message:
        if requests:
            return requests.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def put(message: Message) -> None:
        if gone.is_set():
            raise OSError("Nobody waits for the answer any more.")
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
        gone.set()
        try:
            await asyncio.wait((running,), timeout=LEAVE_SECONDS)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def content_headers(body: bytes, content_type: str = "application/json") -> list[tuple[bytes, bytes]]:
    """The headers that go with `body`; none with none."""
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
