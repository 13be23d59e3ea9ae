"""A request to the OpenAI API from within this process, and what it needs of any other way."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from forebay_server.asgi import App, Message, Scope

PASSED_ON = frozenset({b"x-request-id", b"traceparent", b"tracestate", b"user-agent"})
"""Headers of the job's own request that the request within has too."""

LEAVE_SECONDS = 5.0
"""How long a request that is ended early may take to notice. vLLM ends what it generates when the client disconnects;
a cancelled request would go on generating in a task of its own."""


@dataclass(frozen=True)
class Reply:
    """An answer whose body may still be on its way."""

    status: int
    content_type: str
    body: AsyncIterator[bytes]

    @property
    def is_stream(self) -> bool:
        return self.content_type.startswith("text/event-stream")


class Transport(Protocol):
    """Carries one request. To leave the context ends the request, finished or not."""

    def send(self, method: str, path: str, body: dict[str, Any] | None) -> AbstractAsyncContextManager[Reply]: ...


class WithinProcess:
    """Asks an ASGI app, in the scope of the request that brought the job."""

    def __init__(self, app: App, scope: Scope) -> None:
        self._app = app
        self._scope = scope

    @asynccontextmanager
    async def send(self, method: str, path: str, body: dict[str, Any] | None) -> AsyncIterator[Reply]:
        content = b"" if body is None else json.dumps(body).encode()
        requests: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]
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

        running = asyncio.ensure_future(self._app(self._inner_scope(method, path, content), receive, put))
        running.add_done_callback(lambda _: messages.put_nowait(None))
        try:
            head = await messages.get()
            if head is None:
                await running  # raises what the app raised
                raise RuntimeError("The application ended without an answer.")
            types = [value for name, value in head.get("headers", ()) if name.lower() == b"content-type"]
            yield Reply(head["status"], types[0].decode("latin-1") if types else "", _body(messages, running))
        finally:
            gone.set()
            try:
                await asyncio.wait((running,), timeout=LEAVE_SECONDS)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    def _inner_scope(self, method: str, path: str, content: bytes) -> Scope:
        headers = [(name, value) for name, value in self._scope["headers"] if name in PASSED_ON]
        if content:
            headers += [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        path, _, query = path.partition("?")
        return {
            **self._scope,
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": headers,
            "state": dict(self._scope.get("state", {})),
        }


async def _body(messages: asyncio.Queue[Message | None], running: asyncio.Future[None]) -> AsyncIterator[bytes]:
    while message := await messages.get():
        if piece := message.get("body", b""):
            yield piece
        if not message.get("more_body", False):
            return
    await running
