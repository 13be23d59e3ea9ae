"""The requests that a model must answer before its pod is ready. They are sent to vLLM's app in this process."""

import io
import json
import wave
from collections.abc import Collection
from dataclasses import dataclass

from forebay_server.asgi import App, Scope
from forebay_server.asgi_client import content_headers, open_request

BOUNDARY = "forebay-warm-up"


@dataclass(frozen=True)
class WarmUp:
    """A POST of `body` to `path`."""

    path: str
    body: bytes
    content_type: str = "application/json"


def _json(path: str, **content: object) -> WarmUp:
    return WarmUp(path, json.dumps(content).encode())


def second_of_silence() -> bytes:
    """A WAV file: one second, 16 kHz, 16 bits, one channel."""
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(2 * 16000))
    return sound.getvalue()


def _transcribe(sound: bytes) -> WarmUp:
    few = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="max_completion_tokens"\r\n\r\n1\r\n'
    head = f'{few}--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="silence.wav"\r\n'
    body = head.encode() + b"Content-Type: audio/wav\r\n\r\n" + sound + f"\r\n--{BOUNDARY}--\r\n".encode()
    return WarmUp("/v1/audio/transcriptions", body, f"multipart/form-data; boundary={BOUNDARY}")


REQUESTS = {
    "generate": _json("/v1/completions", prompt="Hello", max_tokens=1, temperature=0),
    "transcription": _transcribe(second_of_silence()),
    "embed": _json("/v1/embeddings", input="Hello"),
    "classify": _json("/classify", input="Hello"),
    "token_embed": _json("/pooling", input="Hello", task="token_embed"),
    "token_classify": _json("/pooling", input="Hello", task="token_classify"),
}
"""Task of the model, as vLLM names it -> warm-up request. The server sends the first that the model supports."""


def _chat(model: str) -> WarmUp:
    messages = [{"role": "user", "content": "Hello"}]
    return _json("/v1/chat/completions", model=model, messages=messages, max_tokens=1, temperature=0)


class WarmUpError(Exception):
    """The model answered the first request with an error."""


def for_tasks(tasks: Collection[str], model: str, chat_template: bool = False) -> list[WarmUp]:
    """The warm-up requests for a model with these `tasks`, served as `model`; none for tasks without such a request.

    `chat_template`: whether the user gave one. vLLM reads it only for the first chat, so a chat is among the requests.
    """
    requests = [request for task, request in REQUESTS.items() if task in tasks][:1]
    return [*requests, _chat(model)] if chat_template and "generate" in tasks else requests


async def send_warm_up(app: App, lifespan: Scope, request: WarmUp) -> None:
    """Send `request` to `app`, in the scope of the running application. Raises WarmUpError unless it answers 200."""
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
        "headers": content_headers(request.body, request.content_type),
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 80),
        "app": lifespan.get("app"),
        "state": dict(lifespan.get("state", {})),
    }
    try:
        async with open_request(app, scope, request.body) as reply:
            answer = await reply.read()
    except Exception as error:
        message = f"POST {request.path} was answered with {type(error).__name__}: {error}"
        raise WarmUpError(message) from error
    if reply.status != 200 or answer in (b"", b"null"):
        text = answer.decode(errors="replace")[:1000]
        raise WarmUpError(f"POST {request.path} was answered with {reply.status}: {text}")
