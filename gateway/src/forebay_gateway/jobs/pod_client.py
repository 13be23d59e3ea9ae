"""Runs one job at a pod, which gives its output line by line (forebay_server.jobs.runsync)."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import aiohttp
import msgspec

from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.fairness.pacing import LARGE_READ_BYTES, FairScheduler
from forebay_gateway.fairness.quotas import UNCOUNTED_BYTES, Reservation
from forebay_gateway.jobs.job import Job, State
from forebay_gateway.settings import MIB
from forebay_protocol.pod import JOB_LINES

LONGEST_LINE = 1 << 24
"""Bytes of an item of the output."""

OUTPUT_ROOM_SECONDS = 60.0
"""For which an item that is not small waits for room."""

BODY_SLICE = 64 << 10
"""Characters of a body that are encoded at a time."""

COPIES = 2
"""How often what is received is in memory at a time: as bytes and as text."""

LONGEST_ERROR = 1 << 20
"""Bytes of an answer that is an error."""

ITEMS_PER_WRITE = 500
"""Items that are given together."""


Take = Callable[[bytearray, bytes], Awaitable[bool]]


class Busy(Exception):
    """The pod takes no more jobs now."""


class Gone(Exception):
    """The pod went away, or never was there, before the job was over."""


class Unreached(Gone):
    """The pod took no connection: the job had nothing to do with it."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended at the pod."""

    state: State
    error: str = ""


OUTPUT_TOO_LARGE = Outcome(State.FAILED, "An item of the output is too large.")
NO_OUTCOME = Outcome(State.FAILED, "The server's answer is not the answer to a job.")

NO_ROOM = Outcome(State.FAILED, "The gateway has no room for more of the output now (kept_bytes). Try again.")

LONGEST_TEXT = 10_000
"""Characters of an error that are kept."""


async def run(
    session: aiohttp.ClientSession, pod: Address, job: Job, received: Reservation, scheduler: FairScheduler
) -> AsyncGenerator[tuple[Sequence[str], Outcome | None]]:
    """Run a job; gives the items of its output, as JSON, as they come, and with the last ones how it ended. `received`
    counts the bytes that are here until the next ones are asked for.

    To close this ends the generation. Raises Busy, Unreached and Gone.
    """

    async def take(before: bytearray, data: bytes) -> bool:
        """Add what came, once there is room for it; the pod waits meanwhile."""
        before += data
        if len(before) > UNCOUNTED_BYTES and not await received.grow(COPIES * len(before), OUTPUT_ROOM_SECONDS):
            return False
        if len(data) > LARGE_READ_BYTES:
            await scheduler.turn(job.endpoint[0])
        return True

    policy = json.dumps({"executionTimeout": job.submission.timeout * 1000})
    body = '{"input": ', job.submission.input, f', "policy": {policy}}}'
    headers = {"Authorization": f"Bearer {job.api_key}", "Accept": JOB_LINES, "X-Request-Id": job.id}
    headers |= {"Content-Type": "application/json", "Content-Length": str(sum(map(_count_bytes, body)))}
    try:
        url = f"http://{pod.url_host}:{pod.port}/v2/{job.endpoint[1]}/runsync"
        async with session.post(url, data=_encode(body), headers=headers, allow_redirects=False) as answer:
            if answer.status in (429, 503):
                raise Busy
            if answer.status != 200:
                yield (), Outcome(State.FAILED, _error(answer.status, await _read(answer, LONGEST_ERROR, take) or b""))
                return
            if JOB_LINES not in answer.headers.get("Content-Type", ""):
                whole = await _read(answer, LONGEST_LINE, take)
                if whole is None:
                    yield (), NO_ROOM
                elif len(whole) > LONGEST_LINE:
                    yield (), OUTPUT_TOO_LARGE
                else:
                    yield _read_whole(whole)
                return
            rest = bytearray()
            async for data in answer.content.iter_any():
                if not await take(rest, data):
                    yield (), NO_ROOM
                    return
                if len(rest) > LONGEST_LINE:
                    yield (), OUTPUT_TOO_LARGE
                    return
                if b"\n" not in data:
                    continue
                size = len(rest)
                *lines, last = rest.split(b"\n")
                rest = bytearray(last)
                async with scheduler.exclusive_step(job.endpoint[0]) if size > MIB else nullcontext():
                    found = list(_read_lines(lines))
                for items, outcome in found:
                    yield items, outcome
                    if outcome:
                        return
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Unreached(repr(error)) from error
    except (OSError, aiohttp.ClientError) as error:
        raise Gone(repr(error)) from error
    raise Gone("the answer broke off")


async def _encode(texts: Sequence[str]) -> AsyncGenerator[bytes]:
    """A body in slices, so that a large one is in memory once while its pod takes it."""
    for text in texts:
        for start in range(0, len(text), BODY_SLICE):
            yield text[start : start + BODY_SLICE].encode()


def _count_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(len(text[start : start + BODY_SLICE].encode()) for start in range(0, len(text), BODY_SLICE))


async def _read(answer: aiohttp.ClientResponse, most: int, take: Take) -> bytearray | None:
    """The body of an answer, of a longer one a little more than `most` bytes; None where there is no room for it."""
    body = bytearray()
    async for data in answer.content.iter_any():
        if not await take(body, data):
            return None
        if len(body) > most:
            break
    return body


class _OutputLine(msgspec.Struct):
    """What a server says in a line, or at the end: an item of the output, or all of them, and how the job ended."""

    output: msgspec.Raw = msgspec.Raw(b"")
    status: str = ""
    error: str = ""


class _Failed(msgspec.Struct):
    message: str = ""


class _Error(msgspec.Struct):
    error: _Failed


_LINE, _ERROR = msgspec.json.Decoder(_OutputLine), msgspec.json.Decoder(_Error)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


def _read_lines(lines: list[bytearray]) -> Iterator[tuple[Sequence[str], Outcome | None]]:
    items: list[str] = []
    lines.reverse()
    while lines:  # each goes when it is read
        try:
            line = _LINE.decode(lines.pop())
            item, outcome = str(memoryview(line.output), "utf-8"), None
            if not item:
                outcome = _outcome(line)
        except (ValueError, RecursionError):
            outcome = NO_OUTCOME
        if outcome:
            yield items, outcome
            return
        items.append(item)
        if len(items) == ITEMS_PER_WRITE:
            yield items, None
            items = []
    if items:
        yield items, None


def _read_whole(body: bytes | bytearray) -> tuple[Sequence[str], Outcome]:
    """What a server from before the lines answers: the output at the end."""
    try:
        line = _LINE.decode(body)
        items = _ITEMS.decode(line.output) if bytes(memoryview(line.output)[:1]) == b"[" else []
        return [str(memoryview(item), "utf-8") for item in items], _outcome(line)
    except (ValueError, RecursionError):
        return (), NO_OUTCOME


def _outcome(line: _OutputLine) -> Outcome:
    """How the job ended. Raises ValueError where this is none of the ends."""
    state = State(line.status)
    if not state.final:
        raise ValueError(line.status)
    return Outcome(state, line.error[:LONGEST_TEXT])


def _error(status: int, body: bytes | bytearray) -> str:
    try:
        return _ERROR.decode(body).error.message[:LONGEST_TEXT]
    except (ValueError, RecursionError):
        return f"The server answered {status}."
