"""Hostile responses of pods: the operator continues, within bounds."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_operator.json_text import MAX_JSON_DIGITS, parse_json
from forebay_operator.pods.client import MAX_LOGGED_BYTES, get_text, post_order
from forebay_operator.pods.load import parse_gateway_load, parse_load
from forebay_operator.pods.startup_poller import _parse
from tests.fuzz import fuzzed

HUGE = "9" * 400
NUMBERS = st.sampled_from(
    [HUGE, "1" + "0" * 5000, "-1", "1e999", "NaN", "Infinity", "1.5", "true", "null", '"x"', "{}"]
)


@asynccontextmanager
async def pod(*parts: bytes, endless: bool = False) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A pod that answers every request with these bytes, the last of them again and again if it is endless. Yields its
    port and the heads that it got."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        try:
            for part in parts:
                writer.write(part)
            while endless:
                writer.write(parts[-1])
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


def whole(status: str, body: bytes, *headers: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status}".encode(), b"content-length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


ERRORS = {
    "no UTF-8": whole("500 Internal Server Error", b"\xff\xfe", b"content-type: text/plain; charset=utf-16"),
    "an unknown charset": whole("500 Internal Server Error", b"x", b"content-type: text/plain; charset=klingon"),
    "no HTTP": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "nothing": b"",
    "a broken compression": whole("500 Internal Server Error", b"x", b"content-encoding: gzip"),
}


@pytest.mark.parametrize("answer", ERRORS.values(), ids=ERRORS)
async def test_no_response_to_a_command_breaks_the_operator(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with pod(answer) as (port, _):
        await post_order("127.0.0.1", port, "/sleep", "token")
    assert "/sleep" in caplog.text


async def test_an_endless_error_is_read_up_to_the_logged_length(caplog: pytest.LogCaptureFixture) -> None:
    head = b"HTTP/1.1 500 Internal Server Error\r\ntransfer-encoding: chunked\r\n\r\n"
    async with pod(head, b"10000\r\n" + b"x" * 65536 + b"\r\n", endless=True) as (port, _):
        await asyncio.wait_for(post_order("127.0.0.1", port, "/sleep", "token"), 10)
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said.count("x") == MAX_LOGGED_BYTES


async def test_a_redirect_is_not_followed() -> None:
    async with pod(whole("200 OK", b"")) as (elsewhere, heads):
        location = b"location: http://127.0.0.1:%d/-/quit" % elsewhere
        async with pod(whole("307 Temporary Redirect", b"", location)) as (port, _):
            await post_order("127.0.0.1", port, "/sleep", "token")
            async with aiohttp.ClientSession() as session:
                assert await get_text(session, "127.0.0.1", port, "/metrics") is None
    assert heads == []


async def test_invalid_utf_8_is_replaced() -> None:
    async with pod(whole("200 OK", b"a\xffb")) as (port, _), aiohttp.ClientSession() as session:
        assert await get_text(session, "127.0.0.1", port, "/startup") == "a\ufffdb"


@pytest.mark.parametrize("text", [HUGE, "[" * 5000, "[1", "", "1" * (MAX_JSON_DIGITS + 1)])
def test_json_that_is_too_expensive_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|number|Expecting|delimiter"):
        parse_json(text)
    assert parse_json("1" * MAX_JSON_DIGITS) == int("1" * MAX_JSON_DIGITS)


@fuzzed
@given(number=NUMBERS, step=st.sampled_from(["Ready", "Downloading", "x"]))
def test_no_number_in_a_report_breaks_the_operator(number: str, step: str) -> None:
    text = f'{{"step": "{step}", "seconds": {{"Ready": {number}, "Downloading": {number}}}, "percent": {number}}}'
    report = _parse(text)
    assert report is None or all(value < 2**54 for value in (*report.seconds.values(), *report.progress.values()))


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["endpoints", "a/b", "held", "jobs", "queued", "step", "seconds"]), inner)
    ),
    max_leaves=12,
)


@fuzzed
@given(JSON)
def test_no_json_breaks_the_pod_client(value: Any) -> None:
    text = json.dumps(value)
    for read in (_parse, parse_gateway_load, parse_load):
        read(text)


@fuzzed
@given(st.lists(st.tuples(st.sampled_from(["forebay_requests_in_flight", "forebay_requests_total"]), NUMBERS)))
def test_no_metrics_break_the_metrics_parser(lines: list[tuple[str, str]]) -> None:
    load = parse_load("".join(f"{name} {value}\n" for name, value in lines))
    assert load is None or (load.begun <= 2**53 and load.in_flight <= 2**53)
