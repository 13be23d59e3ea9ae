"""CORS headers on what does not come from vLLM's app. tests/vllm/test_browsers.py has them with vLLM's own."""

from collections.abc import Awaitable, Callable

from forebay_server.asgi import App, Message, Receive, Scope, Send
from forebay_server.serving.cors import CorsHeaders


class CORSMiddleware:
    """Stands for Starlette's, which is found by its name."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_open(message: Message) -> None:
            await send({**message, "headers": [*message.get("headers", ()), (b"access-control-allow-origin", b"x")]})

        await self.app(scope, receive, send_open)


class Another:
    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("the app is not asked")


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 401, "headers": []})


async def receive() -> Message:
    return {}


def recorder() -> tuple[list[Message], Callable[[Message], Awaitable[None]]]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    return sent, send


async def test_an_answer_from_outside_has_the_headers_of_the_middleware_within() -> None:
    sent, send = recorder()
    cors = CORSMiddleware(never)
    await CorsHeaders(Another(cors)).answer(refuse, {}, receive, send)
    assert sent[0]["headers"] == [(b"access-control-allow-origin", b"x")]
    assert cors.app is never


async def test_without_such_a_middleware_the_answer_is_as_it_is() -> None:
    sent, send = recorder()
    await CorsHeaders(Another(never)).answer(refuse, {}, receive, send)
    assert sent == [{"type": "http.response.start", "status": 401, "headers": []}]
