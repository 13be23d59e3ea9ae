"""Audio and image models with random weights: the shape of answers, and errors about media that cannot be fetched."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from forebay_server.lifecycle.warmup import second_of_silence
from tests.vllm.media import red_square
from tests.vllm.server import NAME, Server
from tests.vllm.server_calls import ask, assert_not_available, both_urls, client, events, send_file

pytestmark = pytest.mark.gate


SOUND = ("silence.wav", second_of_silence(), "audio/wav")


@both_urls
def test_speech_is_transcribed(whisper: Server, base: str) -> None:
    audio = client(whisper, base).audio
    few = {"max_completion_tokens": 4}
    plain = audio.transcriptions.create(model=NAME, file=SOUND, language="en", extra_body=few)
    assert isinstance(plain.text, str)
    full = audio.transcriptions.create(
        model=NAME, file=SOUND, language="en", response_format="verbose_json", extra_body=few
    )
    assert (full.duration, full.language) == (1, "en")
    assert full.segments is not None
    status, text = send_file(
        whisper, f"{base}/audio/translations", second_of_silence(), model=NAME, max_completion_tokens="4"
    )
    assert (status, list(json.loads(text))) == (200, ["text"])


@both_urls
@pytest.mark.parametrize("task", ["transcriptions", "translations"])
def test_transcriptions_are_streamed(whisper: Server, base: str, task: str) -> None:
    form = {"model": NAME, "language": "en", "stream": "true", "max_completion_tokens": "4"}
    status, text = send_file(whisper, f"{base}/audio/{task}", second_of_silence(), **form)
    assert status == 200, text
    *chunks, done = [line for line in text.splitlines() if line]
    assert done == "data: [DONE]"
    assert chunks
    assert all('"choices"' in chunk for chunk in chunks)


@both_urls
def test_a_file_that_is_not_sound_is_rejected(whisper: Server, base: str) -> None:
    status, text = send_file(whisper, f"{base}/audio/transcriptions", b"no sound", model=NAME)
    assert status == 400, text
    assert json.loads(text)["error"]["type"] == "invalid_request_error"


@both_urls
def test_an_audio_model_reports_unsupported_routes(whisper: Server, base: str) -> None:
    for route in ("chat/completions", "completions", "embeddings", "realtime", "audio/speech", "moderations"):
        assert_not_available(ask(whisper, f"{base}/{route}", model=NAME))


def seeing(url: str) -> dict[str, object]:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    return {"model": NAME, "max_tokens": 4, "messages": [{"role": "user", "content": parts}]}


@both_urls
def test_images_reach_the_model(llava: Server, base: str) -> None:
    status, content = ask(llava, f"{base}/chat/completions", **seeing(red_square()))
    assert status == 200, content
    without = ask(llava, f"{base}/chat/completions", model=NAME, messages=[{"role": "user", "content": "What is it?"}])
    assert content["usage"]["prompt_tokens"] - without[1]["usage"]["prompt_tokens"] == 4, "one for each patch"
    assert events(llava, f"{base}/chat/completions", **seeing(red_square()))[-1]["choices"][0]["finish_reason"]


@both_urls
@pytest.mark.parametrize(
    "url", ["data:image/png;base64,notbase64!", "http://127.0.0.1:9/closed.png", "file:///etc/hostname", "gopher://x"]
)
def test_an_image_that_cannot_be_fetched_is_a_client_error(llava: Server, base: str, url: str) -> None:
    status, content = ask(llava, f"{base}/chat/completions", **seeing(url))
    assert (status, content["error"]["type"]) == (400, "invalid_request_error"), content


class Pictures(BaseHTTPRequestHandler):
    """An image, and a path that leads to it."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        moved = self.path == "/moved"
        image = b"" if moved else base64.b64decode(red_square().partition(",")[2])
        self.send_response(302 if moved else 200)
        self.send_header("Location", "/red.png")
        self.send_header("Content-Length", str(len(image)))
        self.end_headers()
        self.wfile.write(image)


def test_an_image_url_may_not_redirect(llava: Server) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as there:
        threading.Thread(target=there.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{there.server_port}"
        status, content = ask(llava, "/v1/chat/completions", **seeing(f"{base}/red.png"))
        assert status == 200, content
        status, content = ask(llava, "/v1/chat/completions", **seeing(f"{base}/moved"))
        assert (status, content["error"]["type"]) == (400, "invalid_request_error"), content
        there.shutdown()
    assert Pictures.asked == ["/red.png", "/moved"]


def test_a_model_without_audio_rejects_sound(llava: Server) -> None:
    parts = [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]
    messages = [{"role": "user", "content": parts}]
    status, content = ask(llava, "/v1/chat/completions", model=NAME, messages=messages)
    assert (status, content["error"]["type"]) == (400, "invalid_request_error"), content
