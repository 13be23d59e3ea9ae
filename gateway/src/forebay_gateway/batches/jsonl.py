"""The lines of a batch's files: requests in, answers out."""

import asyncio
import json
import uuid
from array import array
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from forebay_gateway.batches.objects import ApiObject
from forebay_gateway.http.raw_json import NO_VALUE, read_text
from forebay_gateway.jobs.job import Job, State

MOST_REQUESTS = 50_000
MOST_BATCH_LINES = 2 * MOST_REQUESTS
"""With those that are empty."""

MOST_ERRORS = 50
"""Errors reported for one input file; reading stops after that many."""

CHARACTERS_PER_STEP = 256 << 10
"""Characters that are read in one step of the event loop."""

LONGEST_ID = 512
"""Characters of a custom_id. It is told of in errors, and stands in each line of the output."""

LINE = 256
"""Characters that a line counts besides its own, for what each line costs."""


BYTE_ORDER_MARK = "\ufeff"
"""What Windows' programs write at the beginning of a file in UTF-8."""


@dataclass(frozen=True)
class Request:
    """One line of an input file. `body` is the JSON of an object, as it was written."""

    custom_id: str
    body: str


class _BatchLine(msgspec.Struct):
    custom_id: msgspec.Raw = NO_VALUE
    method: msgspec.Raw = NO_VALUE
    url: msgspec.Raw = NO_VALUE
    body: msgspec.Raw = NO_VALUE


class _RequestBody(msgspec.Struct):
    stream: msgspec.Raw = NO_VALUE


class _WholeAnswer(msgspec.Struct):
    status_code: int = 0
    body: msgspec.Raw = NO_VALUE


_LINE, _BODY = msgspec.json.Decoder(_BatchLine), msgspec.json.Decoder(_RequestBody)
_ANSWER = msgspec.json.Decoder(_WholeAnswer)


class BatchRequests:
    """The requests of an input file that was read. Only where each begins is kept, beside the file itself."""

    def __init__(self, content: str) -> None:
        self._content = content
        self._starts = array("Q")

    def add(self, start: int) -> None:
        """A request stands in the line that begins there."""
        self._starts.append(start)

    def line(self, number: int) -> str:
        start = self._starts[number]
        end = self._content.find("\n", start)
        return self._content[start : end if end >= 0 else len(self._content)]

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> Request:
        asked = _LINE.decode(self.line(number))
        return Request(read_text(asked.custom_id), bytes(asked.body).decode())


async def read_requests(
    content: str, endpoint: str, longest_id: int = LONGEST_ID
) -> tuple[BatchRequests, list[ApiObject]]:
    """The requests of an input file, and what is wrong with its lines, as a batch object tells it. Other tasks run
    between its slices."""
    requests = BatchRequests(content)
    errors: list[ApiObject] = []
    seen: set[str] = set()
    place, number, cost = int(content.startswith(BYTE_ORDER_MARK)), 0, 0
    while place < len(content) and len(errors) < MOST_ERRORS:
        end = content.find("\n", place)
        line = content[place : end if end >= 0 else len(content)]
        start, place, number = place, place + len(line) + 1, number + 1
        if not line.isspace() and line:
            if trouble := _check_line(line, endpoint, seen, longest_id):
                errors.append(_error(*trouble, line=number))
            else:
                requests.add(start)
        if len(requests) > MOST_REQUESTS:
            errors.append(_error("too_many_requests", f"{MOST_REQUESTS} requests are the most in one file."))
            break
        if number > MOST_BATCH_LINES:
            errors.append(_error("too_many_lines", f"{MOST_BATCH_LINES} lines are the most in one file."))
            break
        cost += len(line) + LINE
        if cost > CHARACTERS_PER_STEP:
            cost = 0
            await asyncio.sleep(0)
    if not requests and not errors:
        errors.append(_error("empty_file", "The file has no requests."))
    return requests, errors


def _error(code: str, message: str, param: str | None = None, line: int | None = None) -> ApiObject:
    return {"code": code, "line": line, "message": message, "param": param}


def _check_line(line: str, endpoint: str, seen: set[str], longest_id: int) -> tuple[str, str, str | None] | None:
    """Code, message and param of what is wrong with it."""
    try:
        asked = _LINE.decode(line)
    except msgspec.ValidationError:
        return "invalid_json_line", "This line is no JSON object.", None
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return "invalid_json_line", "This line is not parseable as valid JSON.", None
    custom_id = read_text(asked.custom_id)
    if not custom_id:
        return "missing_required_parameter", "Each line needs a custom_id.", "custom_id"
    if len(custom_id) > longest_id:
        return "invalid_value", f"A custom_id has at most {longest_id} characters.", "custom_id"
    if custom_id in seen:
        return "duplicate_custom_id", f"The custom_id {custom_id!r} is used more than once.", "custom_id"
    seen.add(custom_id)
    if read_text(asked.method) != "POST":
        return "invalid_method", "The method of each line must be POST.", "method"
    if read_text(asked.url) != endpoint:
        return "invalid_url", f"The url of each line must be the batch's endpoint, {endpoint}.", "url"
    body = bytes(asked.body)
    if not body.startswith(b"{"):
        return "missing_required_parameter", "Each line needs a body, a JSON object.", "body"
    if bytes(_BODY.decode(body).stream) not in (b"", b"false", b"null"):
        return "invalid_request", "A request of a batch cannot be streamed.", "body.stream"
    return None


def job_input(endpoint: str, request: Request) -> str:
    """The input of the job that does a request. The server is asked for the status and the body of its answer."""
    return f'{{"route": {json.dumps(endpoint)}, "method": "POST", "whole_answer": true, "body": {request.body}}}'


def render_result(custom_id: str, job: Job | None) -> tuple[bool, str]:
    """Whether a request was answered well, and its line of the output or error file. No job: it was purged or lost."""
    record: dict[str, Any] = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": custom_id}
    if job and job.state is State.COMPLETED and len(job.output) == 1:
        status, body = _read_answer(job.output[0].encode(errors="replace"))
        # the body is JSON that was read before, and is passed on as it is
        answer = {"status_code": status, "request_id": job.id, "body": body}
        line = msgspec.json.encode({**record, "response": answer, "error": None}).decode()
        return status < HTTPStatus.BAD_REQUEST, line
    code = job.state.lower() if job else "job_gone"
    message = (job.error if job else "") or "The request was not answered."
    return False, json.dumps({**record, "response": None, "error": {"code": code, "message": message}})


def _read_answer(output: bytes) -> tuple[int, msgspec.Raw]:
    """Status and body of what a server answered. One from before `whole_answer` gives the body of a good answer."""
    try:
        answer = _ANSWER.decode(output)
    except (msgspec.DecodeError, RecursionError):
        return HTTPStatus.OK, msgspec.Raw(output)
    whole = 100 <= answer.status_code <= 599 and bytes(answer.body)
    return (answer.status_code, answer.body) if whole else (HTTPStatus.OK, msgspec.Raw(output))


def render_unanswered(custom_id: str, status: str) -> str:
    """The line of a request that a batch which is cancelled or expired did not come to."""
    error = {"code": f"batch_{status}", "message": f"This request was not executed as the batch is {status}."}
    record = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": custom_id, "response": None, "error": error}
    return json.dumps(record)
