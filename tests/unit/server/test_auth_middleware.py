"""The auth middleware, before an app that answers with the request that it got."""

import asyncio
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from forebay_server.asgi import App, Message, Receive, Scope, Send
from forebay_server.lifecycle.startup import Step
from forebay_server.lifecycle.state import ServerState
from forebay_server.serving.auth_middleware import AuthMiddleware
from forebay_server.serving.key_ring import KeyRing
from forebay_server.serving.limits import BodyLimits

KEY = "a-valid-key-0123456789"


def one_key() -> KeyRing:
    """A ring with KEY. Its file is deleted afterwards, so the ring must not check for changes during a test."""
    with TemporaryDirectory() as folder:
        Path(folder, "key").write_text(KEY)
        return KeyRing(Path(folder), clock=lambda: 0.0)


ONE_KEY = one_key()


class Recorder:
    """A lifecycle whose model answers or fails."""

    def __init__(self, works: bool = True) -> None:
        self.works = works
        self.served = False

    async def warm_up(self, app: App, scope: Scope) -> None:
        if not self.works:
            raise RuntimeError("no answer")

    def serving(self) -> None:
        self.served = True


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    seen = {"path": scope["path"], "raw_path": scope["raw_path"].decode(), "method": scope["method"]}
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


class Reply:
    def __init__(self, messages: list[Message]) -> None:
        self.status = messages[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.json: Any = json.loads(messages[1]["body"])


async def call(
    path: str, *, method: str = "GET", authorization: str | None = f"Bearer {KEY}", state: ServerState | None = None,
    keys: KeyRing | None = ONE_KEY, raw_path: str = "", headers: list[tuple[bytes, bytes]] | None = None,
    body: list[bytes] | None = None, limits: BodyLimits | None = None,
) -> Reply:  # fmt: skip
    headers = headers or []
    if authorization is not None:
        headers = [*headers, (b"authorization", authorization.encode())]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": headers,
        "raw_path": (raw_path or path).encode(),
    }
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    parts = body or [b""]
    messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts[:-1]]
    messages.append({"type": "http.request", "body": parts[-1], "more_body": False})

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    await AuthMiddleware(echo, state or ServerState(), keys, Recorder(), limits)(scope, receive, send)
    return Reply(sent)


async def no_message() -> Message:
    raise AssertionError("nothing is read")


@pytest.mark.parametrize(
    ("path", "reached"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v2/abc/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/v2/ns.name-1/openai/v1/models", "/v1/models"),
        ("/v2/x/openai/v1/models/org/name", "/v1/models/org/name"),
        ("/v1/responses/resp_1", "/v1/responses/resp_1"),
        ("/health", "/health"),
        ("/v1//models/", "/v1/models"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/openai/v1/models", "/v1/models"),
        ("/v2/rerank", "/v1/rerank"),
        ("/v1/tokenize", "/tokenize"),
        ("/tokenize", "/tokenize"),
        ("/v2/x//runsync/", "/v2/x/runsync"),
    ],
)
async def test_both_base_urls_reach_the_same_routes(path: str, reached: str) -> None:
    assert (await call(path)).json == {"path": reached, "raw_path": reached, "method": "GET"}


async def test_an_escaped_path_stays_escaped() -> None:
    reply = await call("/v2/a b/openai/v1/models/a b", raw_path="/v2/a%20b/openai/v1/models/a%20b")
    assert reply.json == {"path": "/v1/models/a b", "raw_path": "/v1/models/a%20b", "method": "GET"}


@pytest.mark.parametrize("path", ["/health", "/v1/models", "//v1/models/"])
async def test_head_is_answered_by_the_route_for_get(path: str) -> None:
    assert (await call(path, method="HEAD")).json["method"] == "GET"


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/docs",
        "/invocations",
        "/sleep",
        "/v1/load_lora_adapter",
        "/v1",
        "/v1/",
        "/v1/../metrics",
        "/v2/x/openai/v1/../../metrics",
        "/v2/x/y/openai/v1/models",
        "/v2//openai/v1/models",
        "/v2/x/openai/v10/models",
        "/v2/x/openai/metrics",
        "/V1/models",
        "/v1/modelsx",
    ],
)
async def test_only_the_openai_api_is_served(path: str) -> None:
    reply = await call(path, method="POST")
    assert reply.status == 404
    message = reply.json["error"]["message"]
    assert message.startswith(f"Invalid URL (POST {path})")
    assert reply.json["error"] == {
        "message": message,
        "type": "invalid_request_error",
        "param": None,
        "code": "unknown_url",
    }
    assert (await call(path, authorization=None)).status == 401, "without a key the response reveals no information"
    assert (await call(path, authorization=None, keys=None)).status == 404


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {KEY}",
        "wrong-key-0123456789",
        "Bearer wrong-key-0123456789",
        f"Bearer {KEY} x",
    ],
)
async def test_a_wrong_key_is_an_authentication_error(authorization: str | None) -> None:
    reply = await call("/v1/models", authorization=authorization)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.json["error"].keys() == {"message", "type", "param", "code"}
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert (await call("/v1/models", authorization=authorization, keys=None)).status == 200


@pytest.mark.parametrize("authorization", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER  {KEY} ", KEY])
async def test_the_authorization_scheme_is_case_insensitive(authorization: str) -> None:
    assert (await call("/v1/models", authorization=authorization)).status == 200


async def test_health_and_preflight_need_no_key() -> None:
    assert (await call("/health", authorization=None)).status == 200
    assert (await call("/ping", authorization=None)).status == 200
    preflight = [(b"access-control-request-method", b"POST")]
    path = "/v1/chat/completions"
    assert (await call(path, method="OPTIONS", authorization=None, headers=preflight)).status == 200
    assert (await call(path, method="OPTIONS", authorization=None)).status == 401


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/v2/x/openai/v1/chat/completions"])
async def test_a_draining_server_closes_connections(path: str) -> None:
    reply = await call(path, state=ServerState(draining=True))
    assert reply.status == 503
    assert reply.headers["retry-after"] == "1"
    assert reply.headers["connection"] == "close"
    assert reply.json["error"]["type"] == "server_error"


async def test_a_websocket_without_a_key_is_closed() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/realtime", "headers": [], "raw_path": b"/v1/realtime"}
    await AuthMiddleware(echo, ServerState(), ONE_KEY, Recorder())(scope, no_message, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_requests_are_counted_until_their_last_byte() -> None:
    state = ServerState()
    release = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await release.wait()
        raise ConnectionError

    async def send(message: Message) -> None: ...

    gate = AuthMiddleware(slow, state, None, Recorder())
    scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": []}
    running = asyncio.create_task(gate(scope, no_message, send))
    await asyncio.sleep(0)
    assert state.in_flight.count == 1
    release.set()
    with pytest.raises(ConnectionError):
        await running
    await state.in_flight.idle()
    assert state.in_flight.count == 0


@pytest.mark.parametrize(
    ("works", "expected", "step"),
    [(True, "lifespan.startup.complete", Step.READY), (False, "lifespan.startup.failed", Step.WARMING_UP)],
)
async def test_the_port_opens_only_after_the_model_has_answered(works: bool, expected: str, step: Step) -> None:
    state = ServerState(step=Step.WARMING_UP)
    recorder = Recorder(works)
    sent: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete"})

    async def send(message: Message) -> None:
        sent.append(message["type"])

    await AuthMiddleware(app, state, None, recorder)({"type": "lifespan"}, no_message, send)
    assert sent == [expected]
    assert state.step is step
    assert recorder.served is works


@pytest.mark.parametrize("path", ["/v1/tokenize", "/v2/x/openai/v1/tokenize", "/v2/v1/openai/v1/tokenize"])
async def test_vllms_routes_outside_v1_are_served_under_v1(path: str) -> None:
    assert (await call(path, method="POST")).json["path"] == "/tokenize"


async def test_anthropics_clients_can_send_their_key_as_x_api_key() -> None:
    assert (await call("/v1/messages", authorization=None, headers=[(b"x-api-key", KEY.encode())])).status == 200
    reply = await call("/v1/messages", authorization=None)
    assert (reply.status, reply.json["type"], reply.json["error"]["type"]) == (401, "error", "authentication_error")


@pytest.mark.parametrize("path", ["/v1/messages/batches", "/v2/ID/openai/v1/messages/foo"])
async def test_anthropics_clients_get_404_in_their_error_format(path: str) -> None:
    reply = await call(path, method="POST")
    assert (reply.status, reply.json["type"], reply.json["error"]["type"]) == (404, "error", "not_found_error")


async def test_omitted_tools_are_named_in_a_header() -> None:
    tools = [{"type": "web_search_20250305", "name": f"a\r\nx-{number}: b"} for number in range(20)]
    body = json.dumps({"tools": tools}).encode()
    named = (await call("/v1/messages", method="POST", body=[body])).headers["x-forebay-tools-left-out"]
    assert named.split(", ") == [f"a??x-{number}??b" for number in range(16)]
    assert "x-forebay-tools-left-out" not in (await call("/v1/messages", method="POST", body=[b"{}"])).headers


async def test_unsupported_requests_are_rejected_before_vllm() -> None:
    body = json.dumps({"guided_regex": "a", "guided_choice": ["b"]}).encode()
    reply = await call("/v2/x/openai/chat/completions", method="POST", body=[body])
    assert (reply.status, reply.json["error"]["code"]) == (400, "unsupported_parameter")


async def test_an_unsupported_part_of_openais_api_is_named() -> None:
    reply = await call("/v2/x/openai/v1/fine_tuning/jobs", method="POST")
    assert reply.status == 404
    assert reply.json["error"]["message"] == "Fine-tuning is not available for this model."


@pytest.mark.parametrize("given", ["req-1.a:b", "", "a\nb", "x" * 129])
async def test_every_answer_has_a_request_id(given: str) -> None:
    for path, authorization in (("/v1/models", f"Bearer {KEY}"), ("/v1/models", None), ("/health", None)):
        reply = await call(path, authorization=authorization, headers=[(b"x-request-id", given.encode())])
        identity = reply.headers["x-request-id"]
        assert (identity == given) is (given == "req-1.a:b")
        assert len(identity) in (9, 32)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ([b"x" * 10], [], 200),
        ([b"x" * 11], [], 413),
        ([b"x" * 6, b"x" * 6], [], 413),
        ([b""], [(b"content-length", b"11")], 413),
        ([b""], [(b"content-length", b"9" * 5000)], 413),
    ],
)
async def test_a_large_body_is_rejected(body: list[bytes], headers: list[tuple[bytes, bytes]], status: int) -> None:
    limits = BodyLimits(body_bytes=10)
    reply = await call("/v1/embeddings", method="POST", body=body, headers=headers, limits=limits)
    assert reply.status == status


async def test_a_slow_body_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebay_server.serving.limits.LINGER_SECONDS", 0.01)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    scope = {"type": "http", "method": "POST", "path": "/v1/embeddings", "headers": []}
    await AuthMiddleware(echo, ServerState(), None, Recorder(), BodyLimits(body_seconds=0.01))(scope, never, send)
    assert Reply(sent).status == 408
    assert sent[-1] == {"type": "http.response.body", "body": b""}, "the connection ends after the answer"


async def test_a_full_server_sends_retry_after() -> None:
    state = ServerState()
    with state.in_flight.one():
        reply = await call("/v1/models", state=state, limits=BodyLimits(in_flight=1))
        assert (await call("/health", state=state, limits=BodyLimits(in_flight=1))).status == 200
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    assert (reply.json["error"]["type"], reply.json["error"]["code"]) == ("requests", "rate_limit_exceeded")
