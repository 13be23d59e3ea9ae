"""Requirements of browsers and proxies: CORS on errors too, streams without buffering, and
connections that stay open."""

import http.client
import json
import time
from typing import Any

import pytest

from tests.vllm.routes import HELLO
from tests.vllm.server import KEY, NAME, Server
from tests.vllm.server_calls import CALL_TIMEOUT

pytestmark = pytest.mark.gate

PAGE = "https://app.example.com"
SHORT = {"model": NAME, "max_tokens": 2}


def headers_of(server: Server, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=CALL_TIMEOUT)
    sent = {"content-type": "application/json", **headers}
    connection.request(method, path, None if body is None else json.dumps(body), sent)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}


@pytest.mark.parametrize(
    ("path", "body", "key", "expected"),
    [
        ("/v1/models", None, KEY, 200),
        ("/v1/models", None, "", 401),
        ("/v1/models", None, "wrong-key-0123456789", 401),
        ("/v1/nothing", None, KEY, 404),
        ("/v1/chat/completions", {**SHORT, "model": "nobody", "messages": HELLO}, KEY, 404),
        ("/v1/chat/completions", "x" * (33 << 20), KEY, 413),
    ],
)
def test_a_page_of_another_site_can_read_every_response(
    writer: Server, path: str, body: Any, key: str, expected: int
) -> None:
    method, authorization = "POST" if body else "GET", f"Bearer {key}" if key else ""
    status, headers = headers_of(writer, method, path, body, Authorization=authorization, Origin=PAGE)
    assert status == expected
    assert headers["access-control-allow-origin"] == "*"
    assert "x-request-id" in headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {**SHORT, "messages": HELLO}),
        ("/v1/completions", {**SHORT, "prompt": "Hello"}),
        ("/v1/responses", {"model": NAME, "max_output_tokens": 2, "input": "Hello"}),
        ("/v1/messages", {**SHORT, "messages": HELLO}),
    ],
)
def test_no_proxy_buffers_a_stream(writer: Server, path: str, body: dict[str, Any]) -> None:
    status, headers = headers_of(writer, "POST", path, {**body, "stream": True}, Authorization=f"Bearer {KEY}")
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["x-accel-buffering"] == "no"
    assert "no-cache" in headers["cache-control"]


def test_an_idle_connection_accepts_another_request(writer: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", writer.port, timeout=CALL_TIMEOUT)
    for pause in (0, 7):  # vLLM's own time-out is 5 s
        time.sleep(pause)
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b""
        connection.auto_open = 0  # http.client would connect again automatically
    connection.close()


def test_a_trailing_slash_causes_no_redirect(writer: Server) -> None:
    status, headers = headers_of(writer, "GET", "/v1/models/", Authorization=f"Bearer {KEY}")
    assert (status, headers.get("location")) == (200, None)
