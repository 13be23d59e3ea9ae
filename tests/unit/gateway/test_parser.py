"""One request from the bytes of a connection."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_gateway.http.errors import Refused
from forebay_gateway.http.parser import BodyLimit, RequestReader
from forebay_protocol.errors import body_too_large
from tests.fuzz import fuzzed

POST = b"POST /v1/completions?a=b HTTP/1.1\r\nHost: x\r\nX-Own: Value\r\nContent-Length: 5\r\n\r\nhello"


def read(*parts: bytes, head_bytes: int = 1000, body_bytes: int = 1000) -> RequestReader:
    reader = RequestReader(head_bytes, lambda _: BodyLimit(body_bytes, body_too_large(body_bytes)))
    for part in parts:
        reader.feed(part)
    return reader


@fuzzed
@given(st.lists(st.integers(0, len(POST)), max_size=5))
def test_a_request_is_parsed_alike_in_any_pieces(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(POST)]
    reader = read(*(POST[begin:end] for begin, end in pairwise(places)))
    assert reader.complete
    assert reader.head is not None
    assert (reader.head.method, reader.head.target, reader.head.version) == ("POST", b"/v1/completions?a=b", "1.1")
    assert reader.head.headers == [(b"Host", b"x"), (b"X-Own", b"Value"), (b"Content-Length", b"5")]
    assert bytes(reader.body) == b"hello"


def test_the_head_is_available_before_the_body() -> None:
    reader = read(POST[:-3])
    assert reader.head is not None
    assert not reader.complete


def test_a_chunked_body_is_joined() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    reader = read(head, b"3\r\nabc\r\n", b"2;ext=1\r\nde\r\n0\r\n\r\n")
    assert (reader.complete, bytes(reader.body)) == (True, b"abcde")


def test_bytes_after_a_request_are_discarded() -> None:
    reader = read(POST + b"GET /second HTTP/1.1\r\n\r\n", b"more")
    assert reader.head is not None
    assert (reader.head.target, bytes(reader.body)) == (b"/v1/completions?a=b", b"hello")


@pytest.mark.parametrize(
    "following",
    [
        b"\x00\x01no HTTP\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + b"x" * 5,
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    ],
    ids=["garbage", "an offer", "a tunnel", "two hosts"],
)
@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_bytes_after_a_request_do_not_change_it(following: bytes, cut: int) -> None:
    data = POST + following
    reader = read(*(data[place : place + cut] for place in range(0, len(data), cut)))
    assert reader.head is not None
    assert (reader.complete, reader.head.method, bytes(reader.body)) == (True, "POST", b"hello")


@pytest.mark.parametrize(
    "start",
    [b"GET / HTTP/1.0\r\n\r\n", b"\r\n\r\nGET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"],
    ids=["1.0", "empty lines"],
)
@pytest.mark.parametrize("cut", [1, 10_000])
def test_requests_of_old_clients_are_parsed(start: bytes, cut: int) -> None:
    assert read(*(start[place : place + cut] for place in range(0, len(start), cut))).complete


@pytest.mark.parametrize("cut", [1, 7, 100, 157, 10_000])
@pytest.mark.parametrize("request_of", ["length", "chunks", "nothing"])
def test_an_upgrade_header_does_not_change_the_body(cut: int, request_of: str) -> None:
    """Java's HttpClient makes this offer with every first request."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n"
    length, chunks = b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"
    data, body = {
        "length": (POST.replace(length, offer + length), b"hello"),
        "chunks": (
            POST.replace(length, chunks + offer).replace(b"hello", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
            b"hello",
        ),
        "nothing": (b"GET / HTTP/1.1\r\nHost: x\r\n%s\r\n" % offer, b""),
    }[request_of]
    reader = read(*(data[place : place + cut] for place in range(0, len(data), cut)))
    assert (reader.complete, bytes(reader.body)) == (True, body)


def test_a_web_socket_request_is_recognized() -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
    reader = read(b"GET /v1/realtime HTTP/1.1\r\nHost: x\r\n" + upgrade)
    assert reader.head is not None
    assert (reader.complete, reader.head.is_web_socket) == (True, True)


def test_a_target_with_a_host_is_read_as_its_path() -> None:
    reader = read(b"GET http://host:8000/v1/models?a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert reader.head is not None
    assert reader.head.target == b"/v1/models?a"


REFUSED = {
    "no HTTP": ([b"\x16\x03\x01\x02\x00"], 400),
    "a method for proxies": ([b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n"], 405),
    "a tunnel": ([b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n"], 405),
    "a tunnel to a path": ([b"CONNECT /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"], 405),
    "a method of WebDAV": ([b"PROPFIND / HTTP/1.1\r\nHost: x\r\n\r\n"], 405),
    "a line without version": ([b"GET /v1/models\r\n"], 400),
    "two spaces": ([b"GET  /v1/models  HTTP/1.1\r\nHost: x\r\n\r\n"], 400),
    "version 2 in the words of 1": ([b"GET / HTTP/2.0\r\nHost: x\r\n\r\n"], 400),
    "another protocol": ([b"GET / RTSP/1.0\r\nHost: x\r\n\r\n"], 400),
    "no host": ([b"GET / HTTP/1.1\r\n\r\n"], 400),
    "two hosts": ([b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"], 400),
    "an invalid host": ([b"GET / HTTP/1.1\r\nHost: a b/c@d\r\n\r\n"], 400),
    "two keys": ([b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\nauthorization: Bearer a\r\n\r\n"], 400),
    "two keys of Anthropic": ([b"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: a\r\nX-Api-Key: b\r\n\r\n"], 400),
    "a compressed body": ([b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"], 400),
    "chunks twice": (
        [b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"],
        400,
    ),
    "chunks in HTTP/1.0": ([b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"], 400),
    "an invalid method": ([b"FETCH / HTTP/1.1\r\n\r\n"], 400),
    "another version": ([b"GET / HTTP/3.0\r\n\r\n"], 400),
    "a space before the colon": ([b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"], 400),
    "a line that goes on": ([b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n"], 400),
    "two lengths": ([b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"], 400),
    "a length and chunks": (
        [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"],
        400,
    ),
    "an invalid length": ([b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"], 400),
    "an invalid chunk": ([b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"], 400),
    "a head without end": ([b"GET / HTTP/1.1\r\nHost: x\r\n", *[b"X: yyyyyyyy\r\n"] * 99], 431),
    "a head that is too large at once": ([b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 2000 + b"\r\n\r\n"], 431),
    "a length that is too large": ([b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n"], 413),
    "a length beyond numbers": ([b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999999999999\r\n\r\n"], 413),
    "chunks that are too many": (
        [b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"ff\r\n" + b"x" * 255 + b"\r\n"] * 5],
        413,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_malformed_requests_are_rejected(case: str) -> None:
    parts, status = REFUSED[case]
    with pytest.raises(Refused) as refused:
        read(*parts)
    assert refused.value.error.status == status


@fuzzed
@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    with suppress(Refused):
        read(data, POST)
