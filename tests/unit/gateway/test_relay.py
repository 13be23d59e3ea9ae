"""The head of a pod's answer on its way to the client: whatever it says, the connection ends with the answer."""

from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_gateway.errors import Refused
from forebay_gateway.relay import LONGEST_HEAD, Upstream
from tests.fuzz import fuzzed
from tests.unit.gateway.relaying import Client, Transport

ANSWER = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nX-A: 1\r\n\r\n"
ENDS = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nconnection: close\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def relay(*parts: bytes, web_socket: bool = False) -> tuple[Upstream, Client]:
    client = Client()
    upstream = Upstream(client, web_socket=web_socket)
    upstream.transport = cast("Any", Transport())
    for part in parts:
        upstream.data_received(part)
    return upstream, client


@fuzzed
@given(cuts=st.lists(st.integers(0, 200), max_size=6), informs=st.integers(0, 2))
async def test_the_head_ends_the_connection_and_nothing_else_changes(cuts: list[int], informs: int) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * informs
    body = b"\r\n\r\nHTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n"
    data = early + ANSWER + body
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    upstream, client = relay(*(data[begin:end] for begin, end in pairwise(places)))
    assert client.sent == ENDS + body
    assert upstream.answered
    assert not upstream.switched


async def test_only_a_web_socket_that_was_asked_for_is_switched_to() -> None:
    upstream, client = relay(SWITCHED + b"frame", web_socket=True)
    assert upstream.switched
    assert client.sent == SWITCHED + b"frame"
    upstream, client = relay(SWITCHED + b"frame")
    assert not upstream.switched
    assert isinstance(await upstream.ended, Refused)
    assert client.sent == b""


async def test_a_web_socket_that_the_pod_refuses_is_an_answer_like_any_other() -> None:
    upstream, client = relay(ANSWER + b"no", web_socket=True)
    assert not upstream.switched
    assert client.sent == ENDS + b"no"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: 1\nConnection: keep-alive\r\n\r\n",
        b"HTTP/1.1 200 OK\nConnection: keep-alive\n\n" + b"x" * LONGEST_HEAD,
        b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * LONGEST_HEAD,
        b"HTTP/1.1 999 OK\r\n\r\n",
    ],
    ids=["another protocol", "a bare line feed", "bare line feeds only", "no end", "no status"],
)
async def test_what_is_no_answer_never_reaches_the_client(answer: bytes) -> None:
    upstream, client = relay(answer)
    assert client.sent == b""
    assert not upstream.answered
    assert isinstance(await upstream.ended, Refused)
    assert cast("Transport", upstream.transport).aborted
    upstream.data_received(ANSWER)  # what was in the air
    upstream.connection_lost(ConnectionAbortedError())
    assert client.sent == b""


async def test_a_pod_that_only_informs_gives_no_answer() -> None:
    upstream, client = relay(*[b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"] * 3000)
    assert client.sent == b""
    assert isinstance(await upstream.ended, Refused)
