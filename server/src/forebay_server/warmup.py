"""The request that a model must answer before its pod is called ready, sent to vLLM's app within the process."""

import json
from collections.abc import Collection
from dataclasses import dataclass

from forebay_server.asgi import App, Message, Scope


@dataclass(frozen=True)
class WarmUp:
    """A POST of `body` to `path`."""

    path: str
    body: dict[str, object]


REQUESTS = {
    "generate": WarmUp("/v1/completions", {"prompt": "Hello", "max_tokens": 1, "temperature": 0}),
    "embed": WarmUp("/v1/embeddings", {"input": "Hello"}),
}
"""Task of the model, as vLLM names it -> the request that shows it works."""


class WarmUpError(Exception):
    """The model answered the first request with an error."""


def for_tasks(tasks: Collection[str]) -> WarmUp | None:
    """The request for a model that can do `tasks`; None for tasks that no plain request shows."""
    return next((request for task, request in REQUESTS.items() if task in tasks), None)


async def ask(app: App, lifespan: Scope, request: WarmUp) -> None:
    """Send `request` to `app`, in the scope of the running application. Raises WarmUpError unless it answers 200."""
    body = json.dumps(request.body).encode()
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    status = 0
    answer = b""

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status, answer
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            answer += message.get("body", b"")

    scope: Scope = {
        "type": "http",
        "asgi": lifespan["asgi"],
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
        "app": lifespan.get("app"),
        "state": dict(lifespan.get("state", {})),
    }
    await app(scope, receive, send)
    if status != 200:
        raise WarmUpError(f"POST {request.path} was answered with {status}: {answer.decode(errors='replace')[:1000]}")
