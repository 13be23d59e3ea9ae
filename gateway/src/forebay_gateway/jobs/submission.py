"""Parses and checks the body and the query of a job's submission. Pure; `http_api` calls it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import msgspec
from yarl import URL

from forebay_gateway.http.raw_json import NO_VALUE, without_mark
from forebay_protocol.job_fields import UNSUPPORTED_JOB_FIELDS

MINUTE, DAY = 60.0, 86400.0

RUN_BYTES, RUNSYNC_BYTES = 10_000_000, 20_000_000
"""The largest body of /run and of /runsync."""

RUN_RETENTION, RUNSYNC_RETENTION = 30 * MINUTE, 1 * MINUTE
"""Seconds for which the result of a job is kept."""

MAX_WEBHOOK_URL_LENGTH = 2048

MAX_QUERY_FIELDS = 64
"""Fields of a query."""

MAX_FIELD_BYTES = 16 << 10
"""Bytes of the JSON of each field except the input."""

_NO_HOST = re.compile(r"[^!-$&-~]|\.\.|^\.")
"""Finds the parts of a host that cannot be looked up: blanks, control characters, a zone, an empty label."""

_TIMEOUT = (600.0, 5.0, 7 * DAY)
_TTL = (DAY, 10.0, 7 * DAY)
_WAIT = (90.0, 1.0, 300.0)
"""Default, minimum and maximum, in seconds."""


class BadJob(Exception):
    """The request is invalid. The message is for the client; `status` is the HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Submission:
    """A job as submitted.

    Attributes:
        input: its JSON.
        timeout: seconds that it may run.
        ttl: seconds from now after which it is deleted in any state.
        retention: seconds for which its result is kept.
        low: whether it has low priority: it neither starts nor scales an endpoint.
        webhook: the URL that is notified of the job's end; "" for none.
    """

    input: str
    timeout: float
    ttl: float
    retention: float
    low: bool
    webhook: str


class _SubmissionBody(msgspec.Struct):
    input: msgspec.Raw = NO_VALUE
    policy: msgspec.Raw = NO_VALUE
    webhook: msgspec.Raw = NO_VALUE
    s3Config: msgspec.Raw = NO_VALUE


_SUBMISSION = msgspec.json.Decoder(_SubmissionBody)


def read_submission(body: bytes | bytearray, *, sync: bool) -> Submission:
    """Parse a submission. The input stays unparsed JSON. Raises BadJob."""
    max_bytes = RUNSYNC_BYTES if sync else RUN_BYTES
    if len(body) > max_bytes:
        raise BadJob(f"The body is larger than {max_bytes // 1_000_000} MB.", 413)
    try:
        content, whole = _SUBMISSION.decode(without_mark(body)), True
    except msgspec.ValidationError:
        content, whole = _SubmissionBody(), False
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise BadJob("The body is not JSON.") from None
    if not whole or bytes(memoryview(content.input)[:4]) in (b"", b"null"):
        raise BadJob('The body must be an object with an "input", such as {"input": {"prompt": "Hello"}}.')
    if _read_small(content.s3Config, "s3Config"):
        raise BadJob(UNSUPPORTED_JOB_FIELDS["s3Config"])
    policy = _read_small(content.policy, "policy") or {}
    if not isinstance(policy, dict):
        raise BadJob("policy must be an object.")
    return Submission(
        input=str(memoryview(content.input), "utf-8", "replace"),
        timeout=_seconds(policy.get("executionTimeout"), "policy.executionTimeout", _TIMEOUT),
        ttl=_seconds(policy.get("ttl"), "policy.ttl", _TTL),
        retention=RUNSYNC_RETENTION if sync else RUN_RETENTION,
        low=_flag(policy, "lowPriority"),
        webhook=_url(_read_small(content.webhook, "webhook")),
    )


def _read_small(raw: msgspec.Raw, name: str) -> Any:
    """Parse the value of a small field. Raises BadJob."""
    if len(memoryview(raw)) > MAX_FIELD_BYTES:
        raise BadJob(f"{name} is longer than {MAX_FIELD_BYTES} bytes.")
    if not memoryview(raw):
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:  # such as 1e400, which JSON has
        raise BadJob(f"{name} cannot be read: {error}.") from None


def read_wait(query: str) -> float:
    """The number of seconds that /runsync waits. Raises BadJob."""
    return _seconds(_read_query_field(query, "wait"), "wait", _WAIT)


def read_ttl(query: str) -> float | None:
    """The number of seconds for which a request to /status asks to keep the result; None if the query has no ttl.
    Raises BadJob."""
    ttl = _read_query_field(query, "ttl")
    return None if ttl is None else _seconds(ttl, "ttl", _TTL)


def _read_query_field(query: str, name: str) -> float | str | None:
    try:
        value = next(iter(parse_qs(query, max_num_fields=MAX_QUERY_FIELDS).get(name, ())), None)
    except ValueError:
        raise BadJob(f"The query has more than {MAX_QUERY_FIELDS} fields.") from None
    return float(value) if value is not None and value.isdecimal() else value


def _seconds(value: object, name: str, bounds: tuple[float, float, float]) -> float:
    default, lowest, highest = bounds
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest * 1000 <= value <= highest * 1000:
        raise BadJob(f"{name} must be milliseconds from {lowest * 1000:.0f} to {highest * 1000:.0f}.")
    return value / 1000


def _flag(policy: Mapping[str, Any], name: str) -> bool:
    value = policy.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadJob(f"policy.{name} must be true or false.")
    return bool(value)


def _url(value: object) -> str:
    """The URL of the webhook, normalized by the HTTP client that will call it. Raises BadJob."""
    if not value:
        return ""
    try:
        place = URL(value.strip()) if isinstance(value, str) and len(value) <= MAX_WEBHOOK_URL_LENGTH else URL()
        host = place.raw_host
        usable = place.scheme in ("http", "https") and host and place.port and not _NO_HOST.search(host)
    except ValueError:
        usable = False
    if not usable:
        raise BadJob("webhook must be an http or https URL.")
    return str(place)
