"""Parses the lines of a batch's input file, and renders the lines of its output and error files.

The batch processor and the writers of results call it.
"""

import asyncio
import hashlib
import json
import sys
import uuid
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from forebay_gateway.batches.contents import Content, read_pieces
from forebay_gateway.batches.objects import ApiObject
from forebay_gateway.fairness.quotas import memory_of_utf8
from forebay_gateway.http.raw_json import BYTE_ORDER_MARK, NO_VALUE, read_text
from forebay_gateway.jobs.job import Job, State
from forebay_gateway.settings import MIB

MAX_BATCH_REQUESTS = 50_000
MAX_BATCH_LINES = 2 * MAX_BATCH_REQUESTS
"""Lines of one input file, empty ones included."""

MAX_FILE_ERRORS = 50
"""Errors reported for one input file; reading stops after that many."""

BYTES_PER_STEP = 256 << 10
"""Bytes that are parsed in one step of the event loop."""

MAX_LINE_BYTES = 32 * MIB
"""Bytes of a line, as of a request's body (settings.Limits.body_bytes)."""

WINDOW_BYTES = 256 << 10
"""Bytes of an input file that are in memory while its batch runs, unless a line is longer."""

LONG_CHECK_BYTES = MIB
"""Bytes of a line above which its check is a long step of the event loop."""

MAX_CUSTOM_ID_LENGTH = 512
"""Characters of a custom_id. It appears in errors and in each line of the output."""

INPUT_MARGIN = 1024
"""The most bytes that a job's input has in addition to the body."""

LINE_OVERHEAD = 256
"""Bytes that are added to the size of each line, for the cost of a line."""


@dataclass(frozen=True)
class LineBounds:
    """The bounds of a line: characters of its custom_id, bytes, and bytes of its body as a text in memory."""

    custom_id: int = MAX_CUSTOM_ID_LENGTH
    line: int = MAX_LINE_BYTES
    input: int = sys.maxsize


UNBOUNDED = LineBounds(sys.maxsize, sys.maxsize, sys.maxsize)


@dataclass(frozen=True)
class Request:
    """One line of an input file. `body` is the JSON of an object, unchanged."""

    custom_id: str
    body: str


class _BatchLine(msgspec.Struct):
    custom_id: msgspec.Raw = NO_VALUE
    method: msgspec.Raw = NO_VALUE
    url: msgspec.Raw = NO_VALUE
    body: msgspec.Raw = NO_VALUE


class _RequestBody(msgspec.Struct):
    stream: msgspec.Raw = NO_VALUE


class _CompleteAnswer(msgspec.Struct):
    status_code: int = 0
    body: msgspec.Raw = NO_VALUE


_LINE, _BODY = msgspec.json.Decoder(_BatchLine), msgspec.json.Decoder(_RequestBody)
_ANSWER = msgspec.json.Decoder(_CompleteAnswer)


class BatchRequests:
    """The requests of an input file. Memory holds the offset and length of each request, and a window of the file."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._starts = array("Q")
        self._lengths = array("Q")
        self._window = b""
        self._window_start = 0
        self._lock = asyncio.Lock()

    def add(self, start: int, length: int) -> None:
        """Add a request: its line begins at `start` and has `length` bytes."""
        self._starts.append(start)
        self._lengths.append(length)

    def __len__(self) -> int:
        return len(self._starts)

    def size(self, number: int) -> int:
        """Bytes of a request's line."""
        return self._lengths[number]

    async def read(self, number: int) -> Request:
        """Read one request. Raises Unavailable and ContentMissing."""
        line = _LINE.decode(await self._line(self._starts[number], self._lengths[number]))
        return Request(read_text(line.custom_id), str(memoryview(line.body), "utf-8", "replace"))

    async def _line(self, start: int, length: int) -> bytes:
        if length > WINDOW_BYTES:
            return await self._content.read(start, length)
        async with self._lock:
            if not self._window_start <= start <= start + length <= self._window_start + len(self._window):
                self._window = await self._content.read(start, WINDOW_BYTES)
                self._window_start = start
            return self._window[start - self._window_start :][:length]


async def read_requests(
    content: Content,
    endpoint: str,
    bounds: LineBounds = LineBounds(),
    long_step: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> tuple[BatchRequests, list[ApiObject]]:
    """Read an input file. Returns its requests, and the errors of its lines in the form of a batch object.

    Other tasks run between slices of the file. A large line is checked in a `long_step`. Raises Unavailable and
    ContentMissing.
    """
    requests = BatchRequests(content)
    errors: list[ApiObject] = []
    seen: set[bytes] = set()
    number, cost = 0, 0
    async for start, line in _read_lines(content, bounds.line):
        number += 1
        if len(line) > bounds.line:
            errors.append(batch_error("line_too_long", f"A line has at most {bounds.line} bytes.", line=number))
            break
        if line and not line.isspace():
            async with long_step() if len(line) > LONG_CHECK_BYTES else nullcontext():
                problem = _check_line(line, endpoint, seen, bounds)
            if problem:
                errors.append(batch_error(*problem, line=number))
            else:
                requests.add(start, len(line))
        if len(requests) > MAX_BATCH_REQUESTS:
            errors.append(batch_error("too_many_requests", f"A file can have at most {MAX_BATCH_REQUESTS} requests."))
            break
        if number > MAX_BATCH_LINES:
            errors.append(batch_error("too_many_lines", f"A file can have at most {MAX_BATCH_LINES} lines."))
            break
        if len(errors) == MAX_FILE_ERRORS:
            break
        cost += len(line) + LINE_OVERHEAD
        if cost > BYTES_PER_STEP:
            cost = 0
            await asyncio.sleep(0)
    if not requests and not errors:
        errors.append(batch_error("empty_file", "The file has no requests."))
    return requests, errors


async def _read_lines(content: Content, longest: int) -> AsyncIterator[tuple[int, bytearray]]:
    """Yield the offset of each line, and the line. A line longer than `longest` is the last and incomplete."""
    start, left = 0, bytearray()
    if await content.read(0, len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK:
        start = len(BYTE_ORDER_MARK)
    async for piece in read_pieces(content, start):
        place = 0
        while (end := piece.find(b"\n", place)) >= 0:  # one by one: a split of many short lines is a long step
            left += piece[place:end]
            size = len(left)
            yield start, left
            start += size + 1
            left, place = bytearray(), end + 1
        left += piece[place:] if place else piece
        if len(left) > longest:
            break
    if left:
        yield start, left


def batch_error(code: str, message: str, param: str | None = None, line: int | None = None) -> ApiObject:
    """An error of a batch, or of a line of its input file, in the form of a batch object."""
    return {"code": code, "line": line, "message": message, "param": param}


def _check_line(
    line: bytearray, endpoint: str, seen: set[bytes], bounds: LineBounds
) -> tuple[str, str, str | None] | None:
    """Check a line. Returns code, message and param of its error, None if it is valid."""
    try:
        content = _LINE.decode(line)
    except msgspec.ValidationError:
        return "invalid_json_line", "This line is not a JSON object.", None
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return "invalid_json_line", "This line is not parseable as valid JSON.", None
    custom_id = read_text(content.custom_id)
    if not custom_id:
        return "missing_required_parameter", "Each line needs a custom_id.", "custom_id"
    if len(custom_id) > bounds.custom_id:
        return "invalid_value", f"A custom_id has at most {bounds.custom_id} characters.", "custom_id"
    digest = hashlib.blake2b(custom_id.encode(errors="surrogatepass"), digest_size=16).digest()
    if digest in seen:
        return "duplicate_custom_id", f"The custom_id {custom_id!r} is used more than once.", "custom_id"
    seen.add(digest)
    if read_text(content.method) != "POST":
        return "invalid_method", "The method of each line must be POST.", "method"
    if read_text(content.url) != endpoint:
        return "invalid_url", f"The url of each line must be the batch's endpoint, {endpoint}.", "url"
    body = memoryview(content.body)
    if bytes(body[:1]) != b"{":
        return "missing_required_parameter", "Each line needs a body, a JSON object.", "body"
    if bytes(_BODY.decode(body).stream) not in (b"", b"false", b"null"):
        return "invalid_request", "A request of a batch cannot be streamed.", "body.stream"
    # a character takes at most four bytes, so few lines need the exact size
    if len(body) > bounds.input // 4 - INPUT_MARGIN and memory_of_utf8(body) > bounds.input - INPUT_MARGIN:
        text = f"As a job this body takes more than the {bounds.input} bytes of jobs_bytes that a namespace may have."
        return "line_too_large", f"{text} Make it shorter, or raise the gateway's jobs_bytes.", "body"
    return None


def job_input(endpoint: str, request: Request) -> str:
    """The input of the job for a request. This input asks for the status and the body of the server's answer."""
    return f'{{"route": {json.dumps(endpoint)}, "method": "POST", "whole_answer": true, "body": {request.body}}}'


def render_result(custom_id: str, job: Job | None) -> tuple[bool, str]:
    """Render the line of a request in the output or error file. Returns whether the request succeeded, and the line.

    `job` is None if the job was purged or lost.
    """
    record: dict[str, Any] = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": custom_id}
    if job and job.state is State.COMPLETED and len(job.output) == 1:
        status, body = _read_answer(job.output[0].encode(errors="replace"))
        # the body is valid JSON, and is inserted unchanged
        answer = {"status_code": status, "request_id": job.id, "body": body}
        line = msgspec.json.encode({**record, "response": answer, "error": None}).decode()
        return status < HTTPStatus.BAD_REQUEST, line
    code = job.state.lower() if job else "job_gone"
    message = (job.error if job else "") or "The request was not answered."
    return False, json.dumps({**record, "response": None, "error": {"code": code, "message": message}})


def _read_answer(output: bytes) -> tuple[int, msgspec.Raw]:
    """Status and body of a server's answer. An older server without `whole_answer` returns only the body of a
    success."""
    try:
        answer = _ANSWER.decode(output)
    except (msgspec.DecodeError, RecursionError):
        return HTTPStatus.OK, msgspec.Raw(output)
    whole = 100 <= answer.status_code <= 599 and bytes(answer.body)
    return (answer.status_code, answer.body) if whole else (HTTPStatus.OK, msgspec.Raw(output))


def render_unanswered(custom_id: str, status: str) -> str:
    """Render the line of a request that was not executed, because its batch was cancelled or expired."""
    error = {"code": f"batch_{status}", "message": f"This request was not executed as the batch is {status}."}
    record = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": custom_id, "response": None, "error": error}
    return json.dumps(record)
