"""Responses of pods to jobs: with any response, the job ends, and memory stays bounded."""

import asyncio
import hashlib
import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.fairness.quotas import Quota, Reservation
from forebay_gateway.fairness.scheduler import FairScheduler
from forebay_gateway.jobs.job import Job, State
from forebay_gateway.jobs.pod_client import Outcome, PodLost, _error, _read_lines, _read_whole, run
from forebay_gateway.jobs.submission import read_submission
from forebay_protocol.pod import JOB_LINES
from tests.fuzz import fuzzed

JOB = Job("job-1", ("home", "one"), read_submission(b'{"input": {"prompt": "Hi"}}', sync=False), "key", created=0.0)


@asynccontextmanager
async def pod(head: str, *parts: bytes, endless: bool = False) -> AsyncIterator[tuple[Address, list[int]]]:
    """A pod that answers with these bytes, and repeats the last of them if it is endless. Yields its address, and
    the number of sent bytes."""
    taken = [0]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nconnection: close\r\n\r\n".encode())
        try:
            for part in parts:
                writer.write(part)
            while endless:
                writer.write(parts[-1])
                await writer.drain()
                taken[0] += len(parts[-1])
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1]), taken


async def outcome_at(address: Address, room: int = 1 << 30, job: Job = JOB) -> tuple[list[str], Outcome]:
    items: list[str] = []
    received = Reservation(Quota(room), "home")
    async with (
        aiohttp.ClientSession() as session,
        aclosing(run(session, address, job, received, FairScheduler())) as steps,
    ):
        async for given_items, outcome in steps:
            items += given_items
            if outcome:
                return items, outcome
    raise AssertionError("it has no end")


ENDLESS = {
    "an error": ("500 X", b"x" * 65536),
    "JSON": ("200 OK\r\ncontent-type: application/json", b"[" * 65536),
    "a line": (f"200 OK\r\ncontent-type: {JOB_LINES}", b"x" * 65536),
}


@pytest.mark.parametrize("case", ENDLESS)
async def test_an_endless_response_is_read_up_to_a_limit(case: str) -> None:
    head, piece = ENDLESS[case]
    async with pod(head, piece, endless=True) as (address, taken):
        items, outcome = await asyncio.wait_for(outcome_at(address), 30)
    assert (items, outcome.state) == ([], State.FAILED)
    assert taken[0] < 64 << 20


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"[]",
        b"{}",
        b'{"status": "IN_QUEUE"}',
        b'{"status": "GONE"}',
        b'{"status": 3}',
        b'{"status": "COMPLETED"',
        b'{"output": ' + b"[" * 100_000,
        b'{"output": \xff}',
        b'{"status": "COMPLETED", "error": {}}',
    ],
    ids=lambda line: line[:24].decode(errors="replace"),
)
async def test_an_invalid_line_ends_the_job(line: bytes) -> None:
    async with pod(f"200 OK\r\ncontent-type: {JOB_LINES}", b'{"output": 1}\n', line, b"\n") as (address, _):
        items, outcome = await outcome_at(address)
    assert (items, outcome.state) == (["1"], State.FAILED)
    assert "not the answer to a job" in outcome.error


async def test_a_large_input_is_sent_in_slices() -> None:
    """So the gateway has it in memory once, with any characters and any speed of the pod."""
    given = json.dumps({"input": "x" * (9 << 20) + "é水🌊"}, ensure_ascii=False).encode()
    job = replace(JOB, submission=read_submission(given, sync=False))
    taken = hashlib.sha256()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        left = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
        while left:
            data = await reader.read(min(left, 4096))
            taken.update(data)
            left -= len(data)
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {JOB_LINES}\r\nconnection: close\r\n\r\n".encode())
        writer.write(b'{"status": "COMPLETED"}\n')
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        tracemalloc.start()
        _, outcome = await outcome_at(Address("127.0.0.1", server.sockets[0].getsockname()[1]), job=job)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert outcome.state is State.COMPLETED
    policy = json.dumps({"executionTimeout": job.submission.timeout * 1000})
    assert taken.digest() == hashlib.sha256(given[:-1] + f', "policy": {policy}}}'.encode()).digest()
    assert peak < 4 << 20


async def test_an_item_that_does_not_fit_ends_the_job() -> None:
    item = b'{"output": "' + b"x" * 100_000 + b'"}\n'
    async with pod(f"200 OK\r\ncontent-type: {JOB_LINES}", item, b'{"status": "COMPLETED"}\n') as (address, _):
        items, outcome = await outcome_at(address, 300_000)
    assert (items, outcome.state) == ([], State.FAILED)
    assert "no room" in outcome.error
    async with pod(f"200 OK\r\ncontent-type: {JOB_LINES}", item, b'{"status": "COMPLETED"}\n') as (address, _):
        items, outcome = await outcome_at(address, 900_000)
    assert (len(items), outcome.state) == (1, State.COMPLETED)


async def test_a_truncated_response_is_not_the_end_of_the_job() -> None:
    async with pod(f"200 OK\r\ncontent-type: {JOB_LINES}", b'{"output": 1}\n{"out') as (address, _):
        with pytest.raises(PodLost):
            await outcome_at(address)


def test_items_are_stored_unchanged() -> None:
    items, outcome = next(
        _read_lines(
            [
                bytearray(each)
                for each in (b'{"output": {"a": [1,  2.50, null]}}', b'{"output":null}', b'{"status":"COMPLETED"}')
            ]
        )
    )
    assert list(items) == ['{"a": [1,  2.50, null]}', "null"]
    assert outcome == Outcome(State.COMPLETED)
    assert _read_whole(b'{"status": "COMPLETED", "output": [1, {"b": 2}]}') == (
        ["1", '{"b": 2}'],
        Outcome(State.COMPLETED),
    )


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["output", "status", "error", "message"]), inner | st.sampled_from([*State]))
    ),
    max_leaves=8,
)


@fuzzed
@given(JSON)
def test_no_json_of_a_pod_breaks_the_gateway(value: Any) -> None:
    text = json.dumps(value).encode()
    list(_read_lines([bytearray(text)]))
    _read_whole(text)
    _error(500, text)


@pytest.mark.parametrize("status", ["301 X", "303 X", "307 X", "308 X"])
async def test_a_pods_redirect_is_not_followed(status: str) -> None:
    asked = asyncio.Event()

    async def ask(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.close()

    async with await asyncio.start_server(ask, "127.0.0.1", 0) as elsewhere:
        location = f"location: http://127.0.0.1:{elsewhere.sockets[0].getsockname()[1]}/x"
        async with pod(f"{status}\r\n{location}\r\ncontent-length: 0") as (address, _):
            _, outcome = await outcome_at(address)
    assert outcome.state == State.FAILED
    assert not asked.is_set()
