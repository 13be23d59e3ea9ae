"""What a client sends to have a job done, read and checked: pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import msgspec
from yarl import URL

from forebay_gateway.http.raw_json import NO_VALUE, without_mark

MINUTE, DAY = 60.0, 86400.0

RUN_BYTES, RUNSYNC_BYTES = 10_000_000, 20_000_000
"""The largest body of /run and of /runsync."""

RUN_KEPT, RUNSYNC_KEPT = 30 * MINUTE, 1 * MINUTE
"""Seconds for which a result is kept."""

LONGEST_URL = 2048

MOST_FIELDS = 64
"""Of a query."""

MAX_FIELD_BYTES = 16 << 10
"""Bytes of the JSON of a field besides the input."""

_TIMEOUT = (600.0, 5.0, 7 * DAY)
_TTL = (DAY, 10.0, 7 * DAY)
_WAIT = (90.0, 1.0, 300.0)
"""Default, least and most, in seconds."""


class BadJob(Exception):
    """The request cannot be taken; the message is for the client. `status` is HTTP's."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Submission:
    """A job as it was asked for.

    Attributes:
        input: its JSON.
        timeout: seconds that it may run.
        ttl: seconds from now after which nothing is left of it, whatever its state.
        kept: seconds for which its result is kept.
        low: it does not start or scale anything.
        webhook: the URL that is told of its end; "" for none.
    """

    input: str
    timeout: float
    ttl: float
    kept: float
    low: bool
    webhook: str


class _Asked(msgspec.Struct):
    input: msgspec.Raw = NO_VALUE
    policy: msgspec.Raw = NO_VALUE
    webhook: msgspec.Raw = NO_VALUE
    s3Config: msgspec.Raw = NO_VALUE


_ASKED = msgspec.json.Decoder(_Asked)


def read_submission(body: bytes | bytearray, *, sync: bool) -> Submission:
    """The input is kept as it was written, and nothing is built of it. Raises BadJob."""
    most = RUNSYNC_BYTES if sync else RUN_BYTES
    if len(body) > most:
        raise BadJob(f"The body is larger than {most // 1_000_000} MB.", 413)
    try:
        asked, whole = _ASKED.decode(without_mark(body)), True
    except msgspec.ValidationError:
        asked, whole = _Asked(), False
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise BadJob("The body is not JSON.") from None
    if not whole or bytes(memoryview(asked.input)[:4]) in (b"", b"null"):
        raise BadJob('The body must be an object with an "input", such as {"input": {"prompt": "Hello"}}.')
    if _read_small(asked.s3Config, "s3Config"):
        raise BadJob("s3Config is not supported. Remove it, and get the output from /status.")
    policy = _read_small(asked.policy, "policy") or {}
    if not isinstance(policy, dict):
        raise BadJob("policy must be an object.")
    return Submission(
        input=str(memoryview(asked.input), "utf-8", "replace"),
        timeout=_seconds(policy.get("executionTimeout"), "policy.executionTimeout", _TIMEOUT),
        ttl=_seconds(policy.get("ttl"), "policy.ttl", _TTL),
        kept=RUNSYNC_KEPT if sync else RUN_KEPT,
        low=_flag(policy, "lowPriority"),
        webhook=_url(_read_small(asked.webhook, "webhook")),
    )


def _read_small(raw: msgspec.Raw, name: str) -> Any:
    """The value of a field that has few bytes. Raises BadJob."""
    if len(memoryview(raw)) > MAX_FIELD_BYTES:
        raise BadJob(f"{name} is longer than {MAX_FIELD_BYTES} bytes.")
    if not memoryview(raw):
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:  # such as 1e400, which JSON has
        raise BadJob(f"{name} cannot be read: {error}.") from None


def read_wait(query: str) -> float:
    """Seconds that /runsync waits. Raises BadJob."""
    return _seconds(_asked(query, "wait"), "wait", _WAIT)


def read_ttl(query: str) -> float | None:
    """Seconds that /status asks to keep the result; None where it asks nothing. Raises BadJob."""
    asked = _asked(query, "ttl")
    return None if asked is None else _seconds(asked, "ttl", _TTL)


def _asked(query: str, name: str) -> float | str | None:
    try:
        value = next(iter(parse_qs(query, max_num_fields=MOST_FIELDS).get(name, ())), None)
    except ValueError:
        raise BadJob(f"The query has more than {MOST_FIELDS} fields.") from None
    return float(value) if value is not None and value.isdecimal() else value


def _seconds(value: object, name: str, bounds: tuple[float, float, float]) -> float:
    default, least, most = bounds
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not least * 1000 <= value <= most * 1000:
        raise BadJob(f"{name} must be milliseconds from {least * 1000:.0f} to {most * 1000:.0f}.")
    return value / 1000


def _flag(policy: Mapping[str, Any], name: str) -> bool:
    value = policy.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadJob(f"policy.{name} must be true or false.")
    return bool(value)


def _url(value: object) -> str:
    """The URL that is told, as the client that calls it reads URLs. Raises BadJob."""
    if not value:
        return ""
    try:
        place = URL(value.strip()) if isinstance(value, str) and len(value) <= LONGEST_URL else URL()
        usable = place.scheme in ("http", "https") and place.raw_host and not re.search(r"[\s%]", place.raw_host)
    except ValueError:
        usable = False
    if not usable:
        raise BadJob("webhook must be an http or https URL.")
    return str(place)
