"""Requests as bytes: the gateway accepts or refuses them, and a pod gets exactly one request."""

import http.client
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.integration.canned_pod import CannedPod, Exchange, reply
from tests.integration.gateway_process import KEY, Gateway
from tests.integration.openai_calls import wait_until_listed
from tests.kubectl import wait_for

OTHER_KEY = "fb_the-key-of-another-tenant"

HOST = b"Host: x\r\n"
AUTHORIZATION = b"Authorization: Bearer %s\r\n" % KEY.encode()
JSON = b"Content-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
BODY = b'{"model": "org/model", "messages": []}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
BASE = b"/v2/http/openai/v1"
CHAT = BASE + b"/chat/completions"
MODELS = BASE + b"/models"


def post(
    extra: bytes = b"",
    *,
    body: bytes = BODY,
    length: bytes = LENGTH,
    line: bytes = b"POST " + CHAT + b" HTTP/1.1",
    head: bytes = HOST + AUTHORIZATION + JSON,
) -> bytes:
    """A request with a body. `length` is its length header, `extra` follows the body."""
    return line + b"\r\n" + head + length + extra + b"\r\n" + body


def get(target: bytes = MODELS, extra: bytes = b"", *, line: bytes = b"", head: bytes = HOST + AUTHORIZATION) -> bytes:
    """A request without a body."""
    return (line or b"GET " + target + b" HTTP/1.1") + b"\r\n" + head + extra + b"\r\n"


def chunks(data: bytes = BODY, last: bytes = b"0\r\n\r\n", extension: bytes = b"") -> bytes:
    """A body in one chunk."""
    return b"%x%s\r\n%s\r\n" % (len(data), extension, data) + last


SECOND = get(MODELS + b"?second")
"""A request that follows another, or is hidden in it."""

SOCKET = b"Upgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"


@dataclass(frozen=True)
class Case:
    """Attributes:
    status: of the response; 0 if the connection ends without one.
    relayed: the body that the pod gets; None if no pod gets a request.
    then: bytes that the client sends after the response.
    where: "shared", the port of all endpoints, or "own", that of one.
    """

    name: str
    sent: bytes
    status: int
    relayed: bytes | None = None
    then: bytes = b""
    where: str = "shared"


def taken(name: str, sent: bytes, relayed: bytes = b"", **more: object) -> Case:
    return Case(name, sent, 200, relayed, **more)  # type: ignore[arg-type]


def refused(name: str, sent: bytes, status: int = 400, where: str = "shared") -> Case:
    return Case(name, sent, status, where=where)


FRAMING = [
    taken("a plain POST", post(), BODY),
    refused("length and chunks", post(CHUNKED, body=chunks(), length=b"Content-Length: 5\r\n")),
    refused("chunks and length", post(b"Content-Length: 5\r\n", body=chunks(), length=CHUNKED)),
    refused("two equal lengths", post(LENGTH)),
    refused("two lengths", post(b"Content-Length: 0\r\n")),
    refused("a list of lengths", post(length=b"Content-Length: %d, %d\r\n" % (len(BODY), len(BODY)))),
    refused("a length with a sign", post(length=b"Content-Length: +38\r\n")),
    refused("a length below zero", post(length=b"Content-Length: -1\r\n")),
    refused("a hexadecimal length", post(length=b"Content-Length: 0x26\r\n")),
    refused("an empty length", post(length=b"Content-Length: \r\n")),
    refused("a length with a space in it", post(length=b"Content-Length: 3 8\r\n")),
    taken("a length with a tab behind it", post(length=b"Content-Length: %d\t\r\n" % len(BODY)), BODY),
    refused("a length of more than 64 bits", post(length=b"Content-Length: %d\r\n" % (2**64 + len(BODY)))),
    refused("a length in other digits", post(length=b"Content-Length: \xd9\xa3\xd9\xa8\r\n")),
    taken("chunks", post(body=chunks(), length=CHUNKED), BODY),
    taken("Chunked with a capital", post(body=chunks(), length=b"Transfer-Encoding: Chunked\r\n"), BODY),
    refused("gzip, chunked", post(body=chunks(), length=b"Transfer-Encoding: gzip, chunked\r\n")),
    refused("chunked, gzip", post(body=chunks(), length=b"Transfer-Encoding: chunked, gzip\r\n")),
    refused("identity", post(b"Transfer-Encoding: identity\r\n")),
    refused("chunked twice", post(body=chunks(), length=CHUNKED + CHUNKED)),
    refused("xchunked", post(body=chunks(), length=b"Transfer-Encoding: xchunked\r\n")),
    refused("chunked and a vertical tab", post(body=chunks(), length=b"Transfer-Encoding: chunked\x0b\r\n")),
    refused("a space before the encoding's colon", post(body=chunks(), length=b"Transfer-Encoding : chunked\r\n")),
    refused("chunks in HTTP/1.0", post(body=chunks(), length=CHUNKED, line=b"POST " + CHAT + b" HTTP/1.0")),
    taken("an underscore makes another header", post(b"Transfer_Encoding: chunked\r\n"), BODY),
    taken("a chunk's extension", post(body=chunks(extension=b";a=b"), length=CHUNKED), BODY),
    refused("a line end in an extension", post(body=chunks(extension=b';a="\r\n"'), length=CHUNKED)),
    refused("a bare line feed in an extension", post(body=chunks(extension=b";a\nb"), length=CHUNKED)),
    refused("0x before a chunk's size", post(body=b"0x26\r\n" + BODY + b"\r\n0\r\n\r\n", length=CHUNKED)),
    refused("a chunk's size below zero", post(body=b"-1\r\n" + BODY + b"\r\n0\r\n\r\n", length=CHUNKED)),
    refused(
        "a chunk's size of more than 64 bits",
        post(body=b"1" + b"0" * 16 + b"26\r\n" + BODY + b"\r\n0\r\n\r\n", length=CHUNKED),
    ),
    refused("a space behind a chunk's size", post(body=b"26 \r\n" + BODY + b"\r\n0\r\n\r\n", length=CHUNKED)),
    refused("no line end behind a chunk", post(body=b"26\r\n" + BODY + b"0\r\n\r\n", length=CHUNKED)),
    refused("chunks with bare line feeds", post(body=b"26\n" + BODY + b"\n0\n\n", length=CHUNKED)),
    refused(
        "trailers",
        post(body=chunks(last=b"0\r\nX-A: 1\r\nAuthorization: Bearer x\r\nContent-Length: 3\r\n\r\n"), length=CHUNKED),
    ),
    refused(
        "an encoding as trailer", post(body=chunks(last=b"0\r\nTransfer-Encoding: chunked\r\n\r\n"), length=CHUNKED)
    ),
    taken("a GET with a body", get(extra=b"Content-Length: 5\r\n") + b"hello", b"hello"),
    taken("a GET whose body is a request", get(extra=b"Content-Length: %d\r\n" % len(SECOND)) + SECOND, relayed=SECOND),
]

LINES = [
    refused("bare line feeds", post().replace(b"\r\n", b"\n")),
    refused("one bare line feed", post(b"X-A: 1\nX-B: 2\r\n")),
    refused("a bare carriage return", post(b"X-A: 1\rX-B: 2\r\n")),
    refused("two carriage returns", post(b"X-A: 1\r\r\n")),
    refused("a folded header", post(b"X-A: 1\r\n X-B: 2\r\n")),
    refused("a fold of the first header", post(head=b" X-A: 1\r\n" + HOST + AUTHORIZATION + JSON)),
    refused("a folded length", post(length=b"Content-Length:\r\n %d\r\n" % len(BODY))),
    refused("NUL in a value", post(b"X-A: a\x00b\r\n")),
    refused("NUL in a name", post(b"X-\x00A: b\r\n")),
    refused("DEL in a value", post(b"X-A: a\x7fb\r\n")),
    refused("a control character in a value", post(b"X-A: a\x01b\r\n")),
    taken("latin-1 in a value", post(b"X-A: \xe9\r\n"), BODY),
    refused("a space in a name", post(b"X A: b\r\n")),
    refused("a space before a colon", post(b"X-A : b\r\n")),
    refused("no name", post(b": b\r\n")),
    refused("no colon", post(b"X-A\r\n")),
    refused("a name of other characters", post(b"X@A(): b\r\n")),
]

FIRST_LINES = [
    refused("a method in lower case", post(line=b"post " + CHAT + b" HTTP/1.1")),
    refused("an invalid method", post(line=b"FROB " + CHAT + b" HTTP/1.1")),
    refused("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("HTTP/0.9", b"GET " + MODELS + b"\r\n"),
    refused("HTTP/1.2", get(line=b"GET " + MODELS + b" HTTP/1.2")),
    refused("HTTP/2.0", get(line=b"GET " + MODELS + b" HTTP/2.0")),
    refused("HTTP/9.9", get(line=b"GET " + MODELS + b" HTTP/9.9")),
    refused("http in lower case", get(line=b"GET " + MODELS + b" http/1.1")),
    refused("two spaces", get(line=b"GET  " + MODELS + b"  HTTP/1.1")),
    refused("a tab", get(line=b"GET\t" + MODELS + b" HTTP/1.1")),
    refused("another protocol", get(line=b"GET " + MODELS + b" RTSP/1.0")),
    taken("HTTP/1.0", post(line=b"POST " + CHAT + b" HTTP/1.0"), BODY),
    taken("empty lines before", b"\r\n\r\n" + post(), BODY),
    refused("a space before", b" " + post()),
    refused("no Host", post(head=AUTHORIZATION + JSON)),
    refused("two Hosts", post(b"Host: y\r\n")),
    refused("an invalid Host", post(head=b"Host: a b/c@d\r\n" + AUTHORIZATION + JSON)),
    refused("NUL in the target", get(MODELS + b"?\x00")),
    refused("latin-1 in the target", get(MODELS + b"?\xe9")),
    refused("a space in the target", get(MODELS + b"?a b")),
    refused("CONNECT to another host", get(line=b"CONNECT x:443 HTTP/1.1"), 405),
    refused("CONNECT to a path", get(line=b"CONNECT " + MODELS + b" HTTP/1.1") + SECOND, 405),
    refused("OPTIONS of the server", get(line=b"OPTIONS * HTTP/1.1"), 404),
    refused("TRACE", get(line=b"TRACE " + MODELS + b" HTTP/1.1"), 405),
]

TARGETS = [
    taken("a target with a host", get(b"http://x" + MODELS)),
    taken("a target with another scheme", get(b"file://" + MODELS)),
    taken("two slashes", get(b"/" + MODELS)),
    taken("two slashes within", get(MODELS.replace(b"/v1/", b"/v1//"))),
    refused("two slashes in place of the id", get(b"/v2//openai/v1/models"), 404),
    refused("dots", get(MODELS + b"/../../../metrics"), 404),
    refused("encoded dots", get(BASE + b"/%2e%2e/%2e%2e/metrics"), 404),
    refused("an encoded slash in the id", get(b"/v2/http%2fopenai/openai/v1/models"), 404),
    taken("an encoded letter in the id", get(b"/v2/%68ttp/openai/v1/models")),
    refused("a parameter of the id", get(b"/v2/http;x/openai/v1/models"), 404),
    refused("backslashes", get(b"/v2/http\\openai\\v1\\models"), 404),
    refused("a fragment", get(MODELS + b"#x"), 404),
    taken("two question marks", get(MODELS + b"??/v2/other")),
    refused("a target above the limit", get(MODELS + b"?" + b"a" * 40_000), 431),
]

SIZES = [
    refused("a header above the limit", post(b"X-A: " + b"a" * 40_000 + b"\r\n"), 431),
    refused("too many headers", post(b"".join(b"X-%d: 1\r\n" % number for number in range(5000))), 431),
    refused("a body above the limit", post(length=b"Content-Length: 99999999999\r\n"), 413),
]

MORE_THAN_ONE = [
    taken("two requests at once", get() + SECOND),
    taken("bytes behind a request", get() + b"\x00\x01\r\n\r\n"),
    taken("an offer of h2c behind a request", post() + get(extra=H2C) + b"X" * len(BODY), BODY),
    taken("an offer of h2c", post(H2C), BODY),
    refused("an offer of h2c, with length and chunks", post(H2C + CHUNKED, length=b"Content-Length: 5\r\n")),
    taken("a web socket that Connection does not name", get(extra=SOCKET), then=SECOND),
    taken("a web socket and keep-alive", get(extra=SOCKET + b"Connection: keep-alive\r\n"), then=SECOND),
    taken("a web socket where there is none", get(extra=SOCKET + b"Connection: Upgrade\r\n"), then=SECOND),
    taken(
        "a web socket that the pod refuses",
        get(BASE + b"/realtime?model=org/model", SOCKET + b"Connection: Upgrade\r\n"),
        then=SECOND,
    ),
    taken("a web socket with a body", get(extra=SOCKET + b"Content-Length: %d\r\n" % len(SECOND)) + SECOND, SECOND),
]

KEYS = [
    taken("Connection names other headers", post(b"Connection: close, Authorization, X-Hop\r\nX-Hop: 1\r\n"), BODY),
    taken("a request id of other characters", post(b"X-Request-Id: a b;c\r\n"), BODY),
    taken("two request ids", post(b"X-Request-Id: one\r\nX-Request-Id: two\r\n"), BODY),
    refused("two keys, the right one first", post(b"Authorization: Bearer %s\r\n" % OTHER_KEY.encode())),
    refused("two keys, the right one last", post(head=HOST + b"Authorization: Bearer x\r\n" + AUTHORIZATION + JSON)),
    refused(
        "a right key behind another scheme",
        post(head=HOST + b"Authorization: Basic Zm9v\r\nx-api-key: %s\r\n" % KEY.encode() + JSON),
        401,
    ),
    refused("a key in the query", get(MODELS + b"?api_key=" + KEY.encode(), head=HOST), 401),
    taken("headers of proxies", post(b"X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1\r\nX-Original-URL: /m\r\n"), BODY),
    taken("an id in the path at an endpoint's own port", get(b"/v2/other/openai/v1/models"), where="own"),
    refused("files at an endpoint's own port", get(b"/v1/files"), 404, "own"),
    refused("another endpoint by its id", get(b"/v2/http-other/openai/v1/models"), 404),
    refused(
        "another endpoint's key",
        get(b"/v1/models", head=HOST + b"Authorization: Bearer %s\r\n" % OTHER_KEY.encode()),
        401,
        "own",
    ),
    refused(
        "no key, at zero", post(head=HOST + JSON, line=b"POST /v2/http-zero/openai/v1/chat/completions HTTP/1.1"), 401
    ),
    refused(
        "a wrong key, at zero",
        post(
            head=HOST + JSON + b"Authorization: Bearer x\r\n",
            line=b"POST /v2/http-zero/openai/v1/chat/completions HTTP/1.1",
        ),
        401,
    ),
    refused(
        "a preflight with a body, at zero",
        post(
            b"Access-Control-Request-Method: POST\r\n",
            head=HOST + b"Origin: http://x\r\n",
            line=b"OPTIONS /v2/http-zero/openai/v1/chat/completions HTTP/1.1",
        ),
        413,
    ),
]

CASES = [*FRAMING, *LINES, *FIRST_LINES, *TARGETS, *SIZES, *MORE_THAN_ONE, *KEYS]


@dataclass
class Site:
    """A gateway with an endpoint that serves, one of another tenant, and one at zero."""

    gateway: Gateway
    port: int
    pod: CannedPod
    got: list[bytes]


@pytest.fixture(scope="module")
def site(gateway: Gateway) -> Iterator[Site]:
    port = gateway.endpoint("http")
    gateway.endpoint("http-other", keys=[OTHER_KEY], models=["other/model"])
    gateway.endpoint("http-zero")
    got: list[bytes] = []

    async def record(exchange: Exchange) -> None:
        """Answer, leave the connection open as without `Connection: close`, and read to its end."""
        body = await exchange.read_body()
        await reply(exchange, 200, {})
        while True:
            try:
                more = await exchange.reader.read(65536)
            except ConnectionError:
                more = b""
            if not more:
                break
            body += more
        got.append(body)

    with CannedPod() as pod:
        gateway.pods("http", pod)
        wait_until_listed(gateway, "http", pod)
        pod.answer = record
        yield Site(gateway, port, pod, got)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_accepted_requests_reach_the_pod_with_the_same_body(site: Site, case: Case) -> None:
    site.got.clear()
    site.pod.requests.clear()
    status, headers = exchange(site.port if case.where == "own" else site.gateway.port, case.sent, case.then)
    assert status == case.status
    assert headers["connection"] == "close"
    if case.relayed is None:
        assert site.pod.requests == []
        return
    wait_for(lambda: bool(site.got), "the connection to the pod has ended")
    assert site.got == [case.relayed]
    (request,) = site.pod.requests
    if case.relayed:
        assert b"\r\ncontent-length: %d\r\n" % len(case.relayed) in request.head


def test_no_request_of_this_file_started_an_endpoint(site: Site) -> None:
    assert site.gateway.replicas("http-zero") == 0


def test_a_request_sent_byte_by_byte_is_relayed(site: Site) -> None:
    site.got.clear()
    with socket.create_connection(("127.0.0.1", site.gateway.port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post():
            connection.sendall(bytes([byte]))
        assert read_answer(connection)[0] == 200
    wait_for(lambda: bool(site.got), "the connection to the pod has ended")
    assert site.got == [BODY]


def test_expect_100_gets_continue_only_with_a_valid_key(site: Site) -> None:
    site.got.clear()
    head = post(b"Expect: 100-continue\r\n", body=b"")
    with socket.create_connection(("127.0.0.1", site.gateway.port), timeout=20) as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert read_answer(connection)[0] == 200
    wait_for(lambda: bool(site.got), "the connection to the pod has ended")
    assert site.got == [BODY]
    status, _ = exchange(site.gateway.port, head.replace(AUTHORIZATION, b""))
    assert status == 401


def test_an_unknown_expect_header_has_no_effect(site: Site) -> None:
    site.got.clear()
    status, _ = exchange(site.gateway.port, post(b"Expect: 200-ok\r\n"))
    assert status == 200
    wait_for(lambda: bool(site.got), "the connection to the pod has ended")


def test_hop_by_hop_headers_are_not_forwarded(site: Site) -> None:
    for extra, absent in (
        (b"Connection: close, X-Hop\r\nX-Hop: 1\r\n", b"x-hop"),
        (b"Connection: Authorization\r\n", b"authorization"),
        (b"X-Request-Id: one\r\nX-Request-Id: two\r\n", b"two"),
        (b"X-Request-Id: a b;c\r\n", b"a b;c"),
    ):
        site.pod.requests.clear()
        exchange(site.gateway.port, post(extra))
        (request,) = site.pod.requests
        assert absent not in request.head.lower()
        assert request.head.lower().count(b"x-request-id") == 1


def exchange(port: int, sent: bytes, then: bytes = b"") -> tuple[int, dict[str, str]]:
    """Send bytes, read an answer, and send more once it is there."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        answer = read_answer(connection)
        if then:
            connection.sendall(then)
        return answer


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str]]:
    """The status and headers of one answer, which is read whole."""
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    reply.read()
    return reply.status, {name.lower(): value for name, value in reply.getheaders()}
