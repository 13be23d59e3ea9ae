"""Questions to a server under both base URLs, with KEY."""

import json
import urllib.request
from typing import Any

import pytest
from openai import OpenAI

from tests.fetch import fetch
from tests.vllm.server import KEY, Server

BASES = ("/v1", "/v2/any-id/openai/v1")

both_urls = pytest.mark.parametrize("base", BASES)

CALL_TIMEOUT = 60.0


def request(
    server: Server, method: str, path: str, body: bytes | None = None, *, kind: str = "application/json", key: str = KEY
) -> tuple[int, str]:
    """The status and the text of the answer; "" is no key."""
    headers = {"content-type": kind} | ({"authorization": f"Bearer {key}"} if key else {})
    http_request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", body, headers, method=method)
    return fetch(http_request, CALL_TIMEOUT)


def post(server: Server, path: str, body: bytes, kind: str = "application/json") -> tuple[int, str]:
    """The status and the text of the answer."""
    return request(server, "POST", path, body, kind=kind)


def ask(server: Server, path: str, **body: Any) -> tuple[int, Any]:
    """The status and the JSON of the answer."""
    status, text = post(server, path, json.dumps(body).encode())
    return status, json.loads(text)


def events(server: Server, path: str, **body: Any) -> list[dict[str, Any]]:
    """The events of a streamed answer."""
    status, text = post(server, path, json.dumps({**body, "stream": True}).encode())
    assert status == 200, text
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(event) for event in data if event != "[DONE]"]


def send_file(server: Server, path: str, file: bytes, **fields: str) -> tuple[int, str]:
    """A form with a file of sound."""
    edge = "edge-of-a-part"
    parts = [f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
             for name, value in fields.items()]  # fmt: skip
    head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = "".join([*parts, head]).encode() + file + f"\r\n--{edge}--\r\n".encode()
    return post(server, path, body, f"multipart/form-data; boundary={edge}")


def client(server: Server, base: str) -> OpenAI:
    """The official client, which does not try again."""
    return OpenAI(base_url=f"http://127.0.0.1:{server.port}{base}", api_key=KEY, max_retries=0, timeout=CALL_TIMEOUT)


def assert_not_available(answer: tuple[int, Any]) -> None:
    """The clear message about an unsupported action of the loaded model."""
    status, content = answer
    assert (status, content["error"]["code"]) == (404, "not_available_for_model"), content
    assert content["error"]["message"].endswith("is not available for this model.")
