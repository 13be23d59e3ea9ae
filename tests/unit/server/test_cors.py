"""CORS headers on responses that do not come from vLLM's app. tests/vllm/test_browsers.py has them with vLLM's own."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from forebay_server.asgi import App, Message, Receive, Scope, Send
from forebay_server.serving.cors import answer_with_cors


class CORSMiddleware:
    """A fake of Starlette's middleware, which is found by its name."""

    def __init__(self, app: App, allow_origins: str) -> None:
        self.app = app
        self.line = (b"access-control-allow-origin", allow_origins.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_open(message: Message) -> None:
            await send({**message, "headers": [*message.get("headers", ()), self.line]})

        await self.app(scope, receive, send_open)


class Another:
    """A middleware of the user's."""


@dataclass
class Middleware:
    """A middleware entry as in Starlette."""

    cls: type
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 401, "headers": []})


async def receive() -> Message:
    return {}


def recorder() -> tuple[list[Message], Callable[[Message], Awaitable[None]]]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    return sent, send


async def test_a_response_of_outer_middleware_has_the_cors_headers_of_the_app() -> None:
    sent, send = recorder()
    middlewares = [Middleware(Another), Middleware(CORSMiddleware, kwargs={"allow_origins": "x"})]
    await answer_with_cors(refuse, {"app": SimpleNamespace(user_middleware=middlewares)}, receive, send)
    assert sent[0]["headers"] == [(b"access-control-allow-origin", b"x")]


@pytest.mark.parametrize("scope", [{}, {"app": SimpleNamespace(user_middleware=[Middleware(Another)])}])
async def test_without_cors_middleware_the_response_is_unchanged(scope: Scope) -> None:
    sent, send = recorder()
    await answer_with_cors(refuse, scope, receive, send)
    assert sent == [{"type": "http.response.start", "status": 401, "headers": []}]
