"""Condenses pydantic's errors of a request to one sentence. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from forebay_protocol.errors import ApiError

_PAGE = re.compile(
    r"\A\d+ validation errors? for [^\n]+\n(?:(?P<place>\S+)\n)?\s+(?P<message>.+?) \[type=",
)
"""The text of a pydantic.ValidationError in an answer of vLLM. An error about the whole value has no place in it."""

_OWN_FIELDS = re.compile(r"(?<=structured outputs constraint but )(\w+ are specified): \{.*\Z", re.DOTALL)
"""vLLM's message about a constraint, followed by all fields of vLLM's object."""

MAX_ERRORS = 100
"""The most errors that are read. A list of wrong items has one or more for each item."""

MAX_VALIDATION_MESSAGE_LENGTH = 500
"""The most characters of a message. Some of pydantic's messages name every member of a union."""


def of_errors(errors: Sequence[Mapping[str, Any] | str], body: Any) -> ApiError:
    """The error for the validation errors of a request.

    A value may have several forms, each with an error. The deepest error in the body is reported, because the client
    most likely meant that form.

    Args:
        errors: the items of pydantic.ValidationError.errors(), with the locations of FastAPI ("body" first). For some
            items, vLLM has a message instead.
        body: the request's body as it was parsed, or None.
    """
    errors = errors[:MAX_ERRORS]
    if messages := [error for error in errors if isinstance(error, str)]:
        return ApiError(400, _shorten(_join("", messages[0])))
    located = [(_find_place(error, body), error) for error in errors if not isinstance(error, str)]
    if not located:
        return ApiError(400, "The request is not valid.")
    parts, error = max(located, key=lambda pair: len(pair[0]))
    place = _shorten(".".join(map(str, parts)))
    context = error.get("ctx") or {}
    kind, why = error.get("type"), context.get("error")
    if kind == "json_invalid":
        return ApiError(400, _shorten(f"The request's body is not JSON: {why}."), "invalid_json")
    if kind == "missing":
        return ApiError(400, f"{place or 'The body'} is missing.", "missing_required_parameter", place or None)
    if isinstance(why, Exception):
        param = getattr(why, "parameter", None) or place or None
        return ApiError(400, _shorten(str(why.args[0] if why.args else why)), None, param)
    return ApiError(400, _shorten(_join(place, str(error.get("msg")))), None, place or None)


def of_text(message: str) -> str:
    """Condense the text of a pydantic.ValidationError to its first error. Returns other messages as they are."""
    if page := _PAGE.match(message):
        message = _shorten(_join(page["place"] or "", page["message"].removeprefix("Value error, ")))
    return _OWN_FIELDS.sub(r"\1.", message)


def _find_place(error: Mapping[str, Any], body: Any) -> list[str | int]:
    """Find the place of an error in the body. Members of unions, which pydantic's locations have too, are omitted."""
    location = list(error.get("loc", ()))
    if location and location[0] in ("body", "query", "path", "header"):
        del location[0]
    place: list[str | int] = []
    for number, part in enumerate(location):
        absent = error.get("type") == "missing" and number == len(location) - 1
        known = _is_part(part, body)
        if known:
            body = body[part]
        if known or absent:
            place.append(part)
    return place


def _is_part(part: str | int, body: Any) -> bool:
    if isinstance(body, list):
        return isinstance(part, int) and 0 <= part < len(body)
    return isinstance(body, Mapping) and part in body


def _join(place: str, message: str) -> str:
    ending = "" if message.endswith((".", "!", "?")) else "."
    return f"{place}: {message}{ending}" if place else f"{message}{ending}"


def _shorten(message: str) -> str:
    return (
        message if len(message) <= MAX_VALIDATION_MESSAGE_LENGTH else f"{message[: MAX_VALIDATION_MESSAGE_LENGTH - 1]}…"
    )
