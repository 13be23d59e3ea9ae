"""The first request."""

import asyncio
import json

import pytest

from forebay_server.asgi import Message, Receive, Scope, Send
from forebay_server.lifecycle.warmup import REQUESTS, WarmUpError, for_tasks, send_warm_up

LIFESPAN: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "app": "vllm", "state": {"a": 1}}


@pytest.mark.parametrize(
    ("tasks", "chat_template", "paths"),
    [
        (("generate", "render"), False, ["/v1/completions"]),
        (("generate",), True, ["/v1/completions", "/v1/chat/completions"]),
        (("token_embed", "embed"), True, ["/v1/embeddings"]),
        (("classify", "token_classify"), False, ["/classify"]),
        (("token_classify",), False, ["/pooling"]),
        (("transcription",), False, ["/v1/audio/transcriptions"]),
        (("plugin",), False, []),
    ],
)
def test_the_warmup_request_matches_the_task(tasks: tuple[str, ...], chat_template: bool, paths: list[str]) -> None:
    assert [request.path for request in for_tasks(tasks, "served", chat_template)] == paths


def test_the_warmup_chat_uses_the_served_model_name() -> None:
    """Without a name vLLM accepts it, and Forebay's own route rejects it."""
    *_, chat = for_tasks(("generate",), "served", chat_template=True)
    assert json.loads(chat.body)["model"] == "served"


@pytest.mark.parametrize("status", [200, 500])
async def test_only_a_successful_response_counts(status: int) -> None:
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([scope, await receive()])
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"what it said"})

    if status == 200:
        await send_warm_up(app, LIFESPAN, REQUESTS["generate"])
    else:
        with pytest.raises(WarmUpError, match="answered with 500: what it said"):
            await send_warm_up(app, LIFESPAN, REQUESTS["generate"])
    scope, body = seen
    assert (scope["app"], scope["state"], scope["method"]) == ("vllm", {"a": 1}, "POST")
    assert json.loads(body["body"])["max_tokens"] == 1


async def test_the_warmup_client_stays_connected_until_the_response() -> None:
    """As vLLM does it: what the client sends next is waited for beside the work, and a disconnect cancels the work."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        leaving = asyncio.ensure_future(receive())
        work = asyncio.ensure_future(asyncio.sleep(0.05, b'{"choices": []}'))
        await asyncio.wait([leaving, work], return_when=asyncio.FIRST_COMPLETED)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": work.result() if work.done() else b"null"})
        await leaving

    await asyncio.wait_for(send_warm_up(app, LIFESPAN, REQUESTS["generate"]), 5)


async def test_an_empty_response_does_not_count() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"null"})

    with pytest.raises(WarmUpError):
        await send_warm_up(app, LIFESPAN, REQUESTS["generate"])


async def test_an_exception_of_the_app_is_reported_as_its_response() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("no such template")

    with pytest.raises(WarmUpError, match="completions was answered with LookupError: no such template"):
        await send_warm_up(app, LIFESPAN, REQUESTS["generate"])
