"""The lines of a batch's files: requests in, answers out. Pure."""

import json
import uuid
from dataclasses import dataclass
from typing import Any

from forebay_gateway.batches.records import Record
from forebay_gateway.jobs.job import Job, State

MOST_REQUESTS = 50_000
MOST_ERRORS = 50
"""Lines of an input file that it is told of."""


@dataclass(frozen=True)
class Request:
    """One line of an input file."""

    custom_id: str
    body: dict[str, Any]


def read_requests(content: str, endpoint: str) -> tuple[list[Request], list[Record]]:
    """The requests of an input file, and what is wrong with its lines, as a batch object tells it."""
    requests: list[Request] = []
    errors: list[Record] = []
    seen: set[str] = set()
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        found = _read_line(line, endpoint, seen)
        if isinstance(found, Request):
            requests.append(found)
        elif len(errors) < MOST_ERRORS:
            code, message, param = found
            errors.append({"code": code, "line": number, "message": message, "param": param})
    if not requests and not errors:
        errors.append({"code": "empty_file", "line": None, "message": "The file has no requests.", "param": None})
    if len(requests) > MOST_REQUESTS:
        text = f"The file has {len(requests)} requests; {MOST_REQUESTS} are the most."
        errors.append({"code": "too_many_requests", "line": None, "message": text, "param": None})
    return requests, errors


def _read_line(line: str, endpoint: str, seen: set[str]) -> Request | tuple[str, str, str | None]:
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError):
        return "invalid_json_line", "This line is not parseable as valid JSON.", None
    if not isinstance(asked, dict):
        return "invalid_json_line", "This line is no JSON object.", None
    custom_id, body = asked.get("custom_id"), asked.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        return "missing_required_parameter", "Each line needs a custom_id.", "custom_id"
    if custom_id in seen:
        return "duplicate_custom_id", f"The custom_id {custom_id!r} is used more than once.", "custom_id"
    seen.add(custom_id)
    if asked.get("method") != "POST":
        return "invalid_method", "The method of each line must be POST.", "method"
    if asked.get("url") != endpoint:
        return "invalid_url", f"The url of each line must be the batch's endpoint, {endpoint}.", "url"
    if not isinstance(body, dict):
        return "missing_required_parameter", "Each line needs a body, a JSON object.", "body"
    if body.get("stream"):
        return "invalid_request", "A request of a batch cannot be streamed.", "body.stream"
    return Request(custom_id, body)


def job_input(endpoint: str, request: Request) -> str:
    """The input of the job that does a request."""
    return json.dumps({"route": endpoint, "method": "POST", "body": request.body})


def tell_result(request: Request, job: Job | None) -> tuple[bool, str]:
    """Whether a request was answered well, and its line of the output or error file. No job: it was purged or lost."""
    told: dict[str, Any] = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": request.custom_id}
    if job and job.state is State.COMPLETED and len(job.output) == 1:
        answer = {"status_code": 200, "request_id": job.id, "body": json.loads(job.output[0])}
        return True, json.dumps({**told, "response": answer, "error": None})
    code = job.state.lower() if job else "job_gone"
    message = (job.error if job else "") or "The request was not answered."
    return False, json.dumps({**told, "response": None, "error": {"code": code, "message": message}})


def tell_unanswered(request: Request, status: str) -> str:
    """The line of a request that a batch which is cancelled or expired did not come to."""
    error = {"code": f"batch_{status}", "message": f"This request was not executed as the batch is {status}."}
    told = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": request.custom_id, "response": None, "error": error}
    return json.dumps(told)
