"""Runs one job at a pod, which sends the output line by line (forebay_server.jobs.runsync). The executor calls it."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import aiohttp
import msgspec

from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.fairness.quotas import UNCOUNTED_BYTES, Reservation
from forebay_gateway.fairness.scheduler import LARGE_READ_BYTES, FairScheduler
from forebay_gateway.jobs.job import Job, State
from forebay_gateway.settings import MIB
from forebay_protocol.pod import JOB_LINES

MAX_OUTPUT_ITEM_BYTES = 1 << 24
"""Bytes of one item of the output."""

OUTPUT_ROOM_SECONDS = 60.0
"""Seconds for which an item that is not small waits for room in the budget."""

BODY_SLICE = 64 << 10
"""Characters of a body that are encoded at a time."""

OUTPUT_COPIES = 2
"""Copies of received data in memory at a time: one as bytes, one as text."""

MAX_ERROR_BODY_BYTES = 1 << 20
"""Bytes of an error answer that are read."""

ITEMS_PER_WRITE = 500
"""Items that are yielded together."""


AddData = Callable[[bytearray, bytes], Awaitable[bool]]


class Busy(Exception):
    """The pod has no free slot for a job now."""


class PodLost(Exception):
    """The connection to the pod ended before the job was over, or the pod was unreachable."""


class PodUnreachable(PodLost):
    """The pod accepted no connection. The job is not the cause."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended at the pod."""

    state: State
    error: str = ""


OUTPUT_TOO_LARGE = Outcome(State.FAILED, "An item of the output is too large.")
NO_OUTCOME = Outcome(State.FAILED, "The server's answer is not the answer to a job.")

NO_ROOM = Outcome(State.FAILED, "The gateway has no room for more of the output now (kept_bytes). Try again.")

MAX_ERROR_LENGTH = 10_000
"""Characters of an error that are kept."""


async def run(
    session: aiohttp.ClientSession, pod: Address, job: Job, received: Reservation, scheduler: FairScheduler
) -> AsyncGenerator[tuple[Sequence[str], Outcome | None]]:
    """Run a job. Yields the items of its output, as JSON, and the outcome with the last ones.

    `received` counts the bytes in memory until the next items are requested. Closing the generator ends the generation.

    Raises Busy, PodUnreachable and PodLost.
    """

    async def add_data(before: bytearray, data: bytes) -> bool:
        """Add received data once there is room for it. The pod waits until then. Returns False if there is no
        room."""
        before += data
        if len(before) > UNCOUNTED_BYTES and not await received.grow(OUTPUT_COPIES * len(before), OUTPUT_ROOM_SECONDS):
            return False
        if len(data) > LARGE_READ_BYTES:
            await scheduler.wait_for_turn(job.endpoint[0])
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
                yield (
                    (),
                    Outcome(
                        State.FAILED, _error(answer.status, await _read(answer, MAX_ERROR_BODY_BYTES, add_data) or b"")
                    ),
                )
                return
            if JOB_LINES not in answer.headers.get("Content-Type", ""):
                whole = await _read(answer, MAX_OUTPUT_ITEM_BYTES, add_data)
                if whole is None:
                    yield (), NO_ROOM
                elif len(whole) > MAX_OUTPUT_ITEM_BYTES:
                    yield (), OUTPUT_TOO_LARGE
                else:
                    yield _read_whole(whole)
                return
            rest = bytearray()
            async for data in answer.content.iter_any():
                if not await add_data(rest, data):
                    yield (), NO_ROOM
                    return
                if len(rest) > MAX_OUTPUT_ITEM_BYTES:
                    yield (), OUTPUT_TOO_LARGE
                    return
                if b"\n" not in data:
                    continue
                size = len(rest)
                *lines, last = rest.split(b"\n")
                rest = bytearray(last)
                async with scheduler.exclusive_step(job.endpoint[0]) if size > MIB else nullcontext():
                    batches = list(_read_lines(lines))
                for items, outcome in batches:
                    yield items, outcome
                    if outcome:
                        return
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise PodUnreachable(repr(error)) from error
    except (OSError, aiohttp.ClientError) as error:
        raise PodLost(repr(error)) from error
    raise PodLost("the answer was interrupted")


async def _encode(texts: Sequence[str]) -> AsyncGenerator[bytes]:
    """Encode a body in slices, so that a large body is in memory only once."""
    for text in texts:
        for start in range(0, len(text), BODY_SLICE):
            yield text[start : start + BODY_SLICE].encode()


def _count_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(len(text[start : start + BODY_SLICE].encode()) for start in range(0, len(text), BODY_SLICE))


async def _read(answer: aiohttp.ClientResponse, max_bytes: int, add_data: AddData) -> bytearray | None:
    """Read the body of an answer, up to a little more than `max_bytes`. Returns None if there is no room for it."""
    body = bytearray()
    async for data in answer.content.iter_any():
        if not await add_data(body, data):
            return None
        if len(body) > max_bytes:
            break
    return body


class _OutputLine(msgspec.Struct):
    """A line of a streamed answer, with an item or the outcome. An older server's answer is one line with all items."""

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
    while lines:  # each line is freed once it is read
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
    """Read the answer of an older server, which sends the whole output at the end."""
    try:
        line = _LINE.decode(body)
        items = _ITEMS.decode(line.output) if bytes(memoryview(line.output)[:1]) == b"[" else []
        return [str(memoryview(item), "utf-8") for item in items], _outcome(line)
    except (ValueError, RecursionError):
        return (), NO_OUTCOME


def _outcome(line: _OutputLine) -> Outcome:
    """The outcome in the last line. Raises ValueError if its state is not final."""
    state = State(line.status)
    if not state.final:
        raise ValueError(line.status)
    return Outcome(state, line.error[:MAX_ERROR_LENGTH])


def _error(status: int, body: bytes | bytearray) -> str:
    try:
        return _ERROR.decode(body).error.message[:MAX_ERROR_LENGTH]
    except (ValueError, RecursionError):
        return f"The server answered {status}."
