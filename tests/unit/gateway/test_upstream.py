"""The head of a pod's answer on its way to the client: whatever it says, the connection ends with the answer."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.http.errors import Refused
from forebay_gateway.proxy.upstream import MAX_ANSWER_HEAD_BYTES, LateUpstream, Upstream
from forebay_gateway.proxy.upstream import connect as dial
from forebay_protocol.errors import ApiDialect
from tests.fuzz import fuzzed
from tests.unit.gateway.relaying import Client, PodTransport, connect

ANSWER = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nX-A: 1\r\n\r\n"
ENDS = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nconnection: close\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def relay(*parts: bytes, web_socket: bool = False) -> tuple[Upstream, Client]:
    client = Client()
    upstream = Upstream(client, web_socket=web_socket)
    connect(upstream)
    for part in parts:
        upstream.data_received(part)
    return upstream, client


class WaitingClient(Client):
    """It is always the turn of others."""

    def wait_for_turn(self, callback: Callable[[], None]) -> None: ...


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_response_received_before_the_connection_failed_is_read(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """A pod refuses a large body by its head, and ends the connection with the body unread."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER + b"too large")
        await writer.drain()
        writer.transport.abort()

    async def ask() -> tuple[Exception | None, bytes]:
        async with await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1024) as server:
            client = WaitingClient()
            upstream = Upstream(client)
            await dial(upstream, Address("127.0.0.1", server.sockets[0].getsockname()[1]), 5)
            upstream.send(b"POST / HTTP/1.1\r\n\r\n", b"x" * (8 << 20), 5)
            return await asyncio.wait_for(upstream.ended, 10), client.sent

    with asyncio.Runner(loop_factory=new_loop) as runner:
        for _ in range(5):
            assert runner.run(ask()) == (None, ENDS + b"too large")


async def test_a_partial_response_of_an_abandoned_pod_is_not_relayed() -> None:
    """The client gets the reason of the refusal. An event after the end of its stream would be a second answer."""
    leave = asyncio.Event()

    async def answer_half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{")
        await leave.wait()
        writer.transport.abort()

    async with await asyncio.start_server(answer_half, "127.0.0.1", 0, limit=1024) as server:
        client = Client()
        upstream = LateUpstream(client, ApiDialect.OPENAI)
        await dial(upstream, Address("127.0.0.1", server.sockets[0].getsockname()[1]), 5)
        upstream.send(b"POST / HTTP/1.1\r\n\r\n", b"x" * (32 << 20), 0.5)
        assert isinstance(await asyncio.wait_for(upstream.ended, 10), Refused)
        await upstream.sent
        leave.set()
    assert client.sent == b""
    assert not upstream.answered


@fuzzed
@given(cuts=st.lists(st.integers(0, 200), max_size=6), informs=st.integers(0, 2))
async def test_the_head_closes_the_connection_and_is_otherwise_unchanged(cuts: list[int], informs: int) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * informs
    body = b"\r\n\r\nHTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n"
    data = early + ANSWER + body
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    upstream, client = relay(*(data[begin:end] for begin, end in pairwise(places)))
    assert client.sent == ENDS + body
    assert upstream.answered
    assert not upstream.switched


async def test_only_a_requested_web_socket_switches_the_protocol() -> None:
    upstream, client = relay(SWITCHED + b"frame", web_socket=True)
    assert upstream.switched
    assert client.sent == SWITCHED + b"frame"
    upstream, client = relay(SWITCHED + b"frame")
    assert not upstream.switched
    assert isinstance(await upstream.ended, Refused)
    assert client.sent == b""


async def test_a_rejected_web_socket_is_an_ordinary_response() -> None:
    upstream, client = relay(ANSWER + b"no", web_socket=True)
    assert not upstream.switched
    assert client.sent == ENDS + b"no"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: 1\nConnection: keep-alive\r\n\r\n",
        b"HTTP/1.1 200 OK\nConnection: keep-alive\n\n" + b"x" * MAX_ANSWER_HEAD_BYTES,
        b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * MAX_ANSWER_HEAD_BYTES,
        b"HTTP/1.1 999 OK\r\n\r\n",
    ],
    ids=["another protocol", "a bare line feed", "bare line feeds only", "no end", "no status"],
)
async def test_an_invalid_response_never_reaches_the_client(answer: bytes) -> None:
    upstream, client = relay(answer)
    assert client.sent == b""
    assert not upstream.answered
    assert isinstance(await upstream.ended, Refused)
    assert cast("PodTransport", upstream.transport).aborted
    upstream.data_received(ANSWER)  # what was in the air
    upstream.connection_lost(ConnectionAbortedError())
    assert client.sent == b""


async def test_a_pod_that_sends_only_1xx_gives_no_response() -> None:
    upstream, client = relay(*[b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"] * 3000)
    assert client.sent == b""
    assert isinstance(await upstream.ended, Refused)


async def late(*parts: bytes) -> Client:
    """The answer to a client that has got the head of a stream already."""
    client = Client()
    upstream = LateUpstream(client, ApiDialect.OPENAI)
    connect(upstream)
    for part in parts:
        upstream.data_received(part)
    upstream.connection_lost(None)
    assert await upstream.ended is None
    return client


async def test_a_response_after_comments_passes_unchanged_or_becomes_an_event() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    whole = b"HTTP/1.1 103 x\r\n\r\n" + head + b"2\r\n{}\r\n0\r\n\r\n"
    for size in (1, 7, len(whole)):
        parts = [whole[place : place + size] for place in range(0, len(whole), size)]
        assert (await late(*parts)).sent == b"2\r\n{}\r\n0\r\n\r\n"
    assert b'data: {"a": 1}' in (await late(b'HTTP/1.1 200 OK\r\n\r\n{"a": 1}')).sent
    assert b'"status": 400' in (await late(b'HTTP/1.1 400 x\r\n\r\n{"error": {"message": "no"}}')).sent


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 " + b"9" * 5000 + b" OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b"HTTP/1.1 500 x\r\n\r\n" + b"[" * 100_000,
        b"nothing of the kind",
        b"a\r\n" * 20_000,
    ],
    ids=["status", "depth", "depth of an error", "no head", "lines without an end"],
)
async def test_a_malformed_response_becomes_an_error(answer: bytes) -> None:
    sent = (await late(answer)).sent
    assert b'"error"' in sent
    assert sent.endswith(b"0\r\n\r\n")
