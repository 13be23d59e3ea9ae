"""The first request."""

import json

import pytest

from forebay_server.asgi import Message, Receive, Scope, Send
from forebay_server.warmup import REQUESTS, WarmUpError, ask, for_tasks

LIFESPAN: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "app": "vllm", "state": {"a": 1}}


@pytest.mark.parametrize(
    ("tasks", "path"),
    [(("generate", "render"), "/v1/completions"), (("embed", "score"), "/v1/embeddings"), (("transcription",), None)],
)
def test_the_request_fits_the_task(tasks: tuple[str, ...], path: str | None) -> None:
    request = for_tasks(tasks)
    assert (request.path if request else None) == path


@pytest.mark.parametrize("status", [200, 500])
async def test_only_an_answer_counts(status: int) -> None:
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([scope, await receive()])
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"what it said"})

    if status == 200:
        await ask(app, LIFESPAN, REQUESTS["generate"])
    else:
        with pytest.raises(WarmUpError, match="answered with 500: what it said"):
            await ask(app, LIFESPAN, REQUESTS["generate"])
    scope, body = seen
    assert (scope["app"], scope["state"], scope["method"]) == ("vllm", {"a": 1}, "POST")
    assert json.loads(body["body"])["max_tokens"] == 1
