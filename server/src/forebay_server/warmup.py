"""The request that a model must answer before its pod is called ready, sent to vLLM's app within the process."""

import asyncio
import io
import json
import wave
from collections.abc import Collection
from dataclasses import dataclass

from forebay_server.asgi import App, Message, Scope

BOUNDARY = "forebay-warm-up"


@dataclass(frozen=True)
class WarmUp:
    """A POST of `body` to `path`."""

    path: str
    body: bytes
    content_type: str = "application/json"


def _json(path: str, **content: object) -> WarmUp:
    return WarmUp(path, json.dumps(content).encode())


def _second_of_silence() -> WarmUp:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(2 * 16000))
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="silence.wav"\r\n'
    body = head.encode() + b"Content-Type: audio/wav\r\n\r\n" + sound.getvalue() + f"\r\n--{BOUNDARY}--\r\n".encode()
    return WarmUp("/v1/audio/transcriptions", body, f"multipart/form-data; boundary={BOUNDARY}")


REQUESTS = {
    "generate": _json("/v1/completions", prompt="Hello", max_tokens=1, temperature=0),
    "transcription": _second_of_silence(),
    "embed": _json("/v1/embeddings", input="Hello"),
    "classify": _json("/classify", input="Hello"),
    "token_embed": _json("/pooling", input="Hello", task="token_embed"),
    "token_classify": _json("/pooling", input="Hello", task="token_classify"),
}
"""Task of the model, as vLLM names it -> the request that shows it works. The first that the model can do is sent."""

CHAT = _json("/v1/chat/completions", messages=[{"role": "user", "content": "Hello"}], max_tokens=1, temperature=0)


class WarmUpError(Exception):
    """The model answered the first request with an error."""


def for_tasks(tasks: Collection[str], chat_template: bool = False) -> list[WarmUp]:
    """The requests for a model that can do `tasks`; none for tasks that no plain request shows. `chat_template`: one
    was given by the user, which vLLM reads only when the first chat comes."""
    requests = [request for task, request in REQUESTS.items() if task in tasks][:1]
    return [*requests, CHAT] if chat_template and "generate" in tasks else requests


async def ask(app: App, lifespan: Scope, request: WarmUp) -> None:
    """Send `request` to `app`, in the scope of the running application. Raises WarmUpError unless it answers 200."""
    messages: list[Message] = [{"type": "http.request", "body": request.body, "more_body": False}]
    status = 0
    answer = b""

    answered = asyncio.Event()

    async def receive() -> Message:
        """vLLM gives up a request whose client has gone, and answers it with 200 and null: so stay until the end."""
        if messages:
            return messages.pop()
        await answered.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status, answer
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            answer += message.get("body", b"")
            if not message.get("more_body", False):
                answered.set()

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
        "headers": [
            (b"content-type", request.content_type.encode()),
            (b"content-length", str(len(request.body)).encode()),
        ],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
        "app": lifespan.get("app"),
        "state": dict(lifespan.get("state", {})),
    }
    await app(scope, receive, send)
    if status != 200 or answer in (b"", b"null"):
        raise WarmUpError(f"POST {request.path} was answered with {status}: {answer.decode(errors='replace')[:1000]}")
