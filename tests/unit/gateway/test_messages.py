"""Errors, heads, and answers of the gateway itself."""

import json

import pytest

from forebay_gateway.endpoints.endpoint import Endpoint, read_endpoint
from forebay_gateway.http import errors
from forebay_gateway.http.messages import (
    REQUEST_ID,
    Head,
    end_connection,
    read_status,
    render_answer,
    render_request,
    replace_line,
)
from forebay_gateway.proxy.local_answers import health
from forebay_gateway.proxy.upstream import LateUpstream
from forebay_gateway.proxy.worker_affinity import RequestedWorker, read_worker
from forebay_protocol.errors import ApiDialect
from forebay_protocol.request_id import choose_id
from tests.unit.gateway.relaying import Client


@pytest.mark.parametrize("api", ApiDialect)
def test_an_event_is_one_event(api: ApiDialect) -> None:
    event = errors.of_pod(400, b'{"error": {"message": "two\\n\\nlines", "code": "c"}}').event(api)
    assert event.endswith(b"\n\n")
    assert event.count(b"\n\n") == 1
    error = json.loads(event.partition(b"data: ")[2])["error"]
    assert (error if api is ApiDialect.RUNPOD else error["message"]) == "two\n\nlines"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "text"}', b'{"detail": "x"}', b"null"])
def test_a_pod_response_without_openais_error_format_is_described_by_its_status(body: bytes) -> None:
    assert errors.of_pod(500, body).message == "The server answered 500 (Internal Server Error)."
    assert "799" in errors.of_pod(799, body).message


def test_a_message_repeats_only_the_beginning_of_a_name() -> None:
    for error in (errors.no_model("😀" * 10_000_000), errors.no_endpoint("x" * 60_000)):
        assert len(error.message) < 300


def head(*lines: tuple[bytes, bytes], method: str = "POST") -> Head:
    return Head(method, b"/v1/x", "1.1", list(lines))


def test_a_request_keeps_all_but_its_hop_by_hop_headers() -> None:
    lines = [
        (b"Host", b"x"),
        (b"Connection", b"keep-alive, X-Hop"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Expect", b"100-continue"),
        (b"Upgrade", b"h2c"),
        (b"aUTHORIZATION", b"Bearer k"),
    ]
    made = render_request(head(*lines), b"/v1/y", 3)
    start = b"POST /v1/y HTTP/1.1\r\nHost: x\r\naUTHORIZATION: Bearer k\r\n"
    assert made == start + b"connection: close\r\ncontent-length: 3\r\n\r\n"


@pytest.mark.parametrize(
    ("given", "taken"), [(b"req_1-a.b:c", True), (b"", False), (b"a b", False), (b"x" * 129, False), (b"\xff", False)]
)
def test_a_request_keeps_its_id_up_to_the_pod(given: bytes, taken: bool) -> None:
    asked = head((b"X-Request-ID", given), (b"Host", b"x"))
    chosen = choose_id(asked.get(REQUEST_ID))
    assert (chosen == given.decode("latin-1")) is taken
    sent = replace_line(asked, REQUEST_ID, chosen)
    assert [value for name, value in sent.headers if name.lower() == REQUEST_ID] == [chosen.encode()]
    assert (sent is asked) is taken
    assert choose_id("") != choose_id("")


def test_a_web_socket_keeps_its_upgrade() -> None:
    lines = [(b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Key", b"k")]
    asked = head(*lines, method="GET")
    assert asked.is_web_socket
    start = b"GET /v1/realtime HTTP/1.1\r\nSec-WebSocket-Key: k\r\n"
    made = render_request(asked, b"/v1/realtime", 0, web_socket=True)
    assert made == start + b"connection: Upgrade\r\nupgrade: websocket\r\n\r\n"
    assert render_request(asked, b"/v1/realtime", 0) == start + b"connection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("lines", "method"),
    [
        ([(b"Upgrade", b"websocket")], "GET"),
        ([(b"Connection", b"keep-alive"), (b"Upgrade", b"websocket")], "GET"),
        ([(b"Connection", b"upgrade"), (b"Upgrade", b"h2c")], "GET"),
        ([(b"Connection", b"upgrade"), (b"Upgrade", b"websocket")], "POST"),
    ],
)
def test_a_web_socket_is_requested_by_two_headers(lines: list[tuple[bytes, bytes]], method: str) -> None:
    assert not head(*lines, method=method).is_web_socket


def test_headers_named_by_connection_are_not_forwarded() -> None:
    asked = head((b"Host", b"x"), (b"Connection", b"close, x-hop"), (b"connection", b"HOST , X-Two"), (b"X-Hop", b"1"))
    assert render_request(asked, b"/", 0, keys=True).startswith(b"POST / HTTP/1.1\r\nHost: x\r\nconnection: close\r\n")


@pytest.mark.parametrize(
    ("given", "relayed"),
    [
        (b"k", b"Bearer k"),
        (b" k ", b"Bearer k"),
        (b"Bearer k", b"Bearer k"),
        (b"bearer  k", b"bearer  k"),
        (b"Bearer", b"Bearer"),
        (b"Basic k", b"Basic k"),
        (b"", b""),
    ],
)
def test_a_bare_key_is_relayed_in_the_form_for_older_pods(given: bytes, relayed: bytes) -> None:
    made = render_request(head((b"X-Own", b"k"), (b"authorization", given)), b"/", 0)
    assert made.startswith(b"POST / HTTP/1.1\r\nX-Own: k\r\nauthorization: " + relayed + b"\r\n")


def test_a_pod_without_keys_gets_no_key() -> None:
    asked = head((b"Authorization", b"Bearer k"), (b"X-API-Key", b"k"), (b"X-Own", b"1"))
    made = render_request(asked, b"/", 0, keys=False)
    assert made == b"POST / HTTP/1.1\r\nX-Own: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"X-A: 1", b"X-A: 1\r\n"),
        (b"X-A: 1\r\nConnection: keep-alive\r\nX-B: 2", b"X-A: 1\r\nX-B: 2\r\n"),
        (
            b"Connection:\r\n keep-alive,\r\n\tUpgrade\r\nKeep-Alive: timeout=9\r\nX-B:\r\n folded",
            b"X-B:\r\n folded\r\n",
        ),
        (b"connection : keep-alive\r\nPROXY-CONNECTION: keep-alive\r\nUpgrade: websocket", b""),
    ],
)
def test_the_head_of_a_response_closes_the_connection(given: bytes, kept: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + given
    assert read_status(answer) == 200
    assert end_connection(answer) == b"HTTP/1.1 200 OK\r\n" + kept + b"connection: close"


def test_the_head_of_a_response_names_its_pod_and_no_other() -> None:
    answer = b"HTTP/1.1 200 OK\r\nX-RunPod-Worker-ID: other\r\n folded\r\nX-A: 1"
    end = b"x-runpod-worker-id: one-x2x7p\r\nconnection: close"
    assert end_connection(answer, "one-x2x7p") == b"HTTP/1.1 200 OK\r\nX-A: 1\r\n" + end


@pytest.mark.parametrize(
    ("value", "asked"),
    [
        ("", RequestedWorker()),
        ("one-x2x7p", RequestedWorker("one-x2x7p")),
        ("strict one-x2x7p", RequestedWorker("one-x2x7p", strict=True)),
        ("strict-resume one-x2x7p", RequestedWorker("one-x2x7p", strict=True)),
        ("One", RequestedWorker()),
        ("a b", RequestedWorker()),
        ("a" * 254, RequestedWorker()),
        ("strictly-not!", RequestedWorker()),
        ("strict a b", RequestedWorker(strict=True)),
        ("strict " + "a" * 254, RequestedWorker(strict=True)),
        ("strict  a", RequestedWorker(strict=True)),
    ],
)
def test_a_request_can_select_its_pod(value: str, asked: RequestedWorker) -> None:
    head = Head("POST", b"/", "1.1", [(b"X-Runpod-Worker-Id", value.encode())])
    assert read_worker(head) == asked


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2",
        b"HTTP/1.1 2000 OK",
        b"HTTP/2 200",
        b"HTTP/1.1 200 OK\nConnection: keep-alive",
        b"HTTP/1.1 200 OK\r\nX: 1\nConnection: keep-alive",
        b"HTTP/1.1 200 OK\r\nX: 1\rConnection: keep-alive",
        b"HTTP/1.1 200 OK\r\nX: \0",
    ],
)
def test_an_ambiguous_head_is_rejected(answer: bytes) -> None:
    with pytest.raises(ValueError, match="no head"):
        read_status(answer)


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ([(b"Authorization", b"Bearer  k ")], "k"),
        ([(b"authorization", b"bearer k")], "k"),
        ([(b"Authorization", b"Basic k")], ""),
        ([(b"X-API-Key", b"k")], "k"),
        ([(b"Authorization", b"Basic k"), (b"x-api-key", b"other")], ""),
        ([], ""),
    ],
)
def test_the_key_is_found_in_each_header_that_clients_use(lines: list[tuple[bytes, bytes]], key: str) -> None:
    assert head(*lines).key == key


def test_only_a_204_response_has_no_content_length() -> None:
    assert b"content-length" not in render_answer(204, None)[0]
    assert b"content-length: 0" in render_answer(200, None)[0]
    head, body = render_answer(200, {"a": 1}, bodiless=True)
    assert head.endswith(b"content-length: 8\r\nconnection: close\r\n\r\n")
    assert not body


def endpoint(replicas: int, scales: bool = True) -> Endpoint:
    spec = {"replicas": replicas, **({"scaling": {}} if scales else {})}
    return read_endpoint({"metadata": {"name": "one", "namespace": "team"}, "spec": spec})


def test_health_has_the_fields_that_a_load_balancer_needs() -> None:
    asleep, off = endpoint(0), endpoint(0, scales=False)
    assert [health(asleep, ready=ready, ping=True) for ready in (True, False)] == [200, 204]
    assert health(asleep, ready=False, ping=False) == 200
    assert health(off, ready=False, ping=False) == 503
    assert health(None, ready=False, ping=True) == 503


STREAM = b"HTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ndata: 1\r\n0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
async def test_after_comments_the_body_of_a_stream_passes_alone(size: int) -> None:
    client = Client()
    upstream = LateUpstream(client, ApiDialect.OPENAI)
    for place in range(0, len(STREAM), size):
        upstream.data_received(STREAM[place : place + size])
    upstream.connection_lost(None)
    assert client.sent == b"7\r\ndata: 1\r\n0\r\n\r\n"
    assert upstream.answered
    assert await upstream.ended is None


async def test_after_comments_a_complete_response_becomes_one_event() -> None:
    client = Client()
    upstream = LateUpstream(client, ApiDialect.OPENAI)
    upstream.data_received(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"a":\n "b"}')
    upstream.connection_lost(None)
    assert client.sent == b'12\r\ndata: {"a": "b"}\n\n\r\n0\r\n\r\n'


async def test_after_comments_a_closed_connection_without_a_response_is_detected() -> None:
    upstream = LateUpstream(Client(), ApiDialect.OPENAI)
    upstream.connection_lost(ConnectionResetError())
    assert not upstream.answered
    assert isinstance(await upstream.ended, ConnectionResetError)
