"""One sentence for what pydantic says of a request in pages. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from forebay_protocol.errors import ApiError

_PAGE = re.compile(
    r"\A\d+ validation errors? for [^\n]+\n(?:(?P<place>\S+)\n)?\s+(?P<sentence>.+?) \[type=",
)
"""How a pydantic.ValidationError reads that vLLM answered with as text; without a place where it is of the whole."""

_OWN_FIELDS = re.compile(r"(?<=structured outputs constraint but )(\w+ are specified): \{.*\Z", re.DOTALL)
"""What vLLM says of a constraint, with all fields of its own object behind."""

MOST = 100
"""Errors that are looked at: a list of wrong items has one and more for each."""

LONGEST = 500
"""Characters of a message: some of pydantic's name every member of a union."""


def of_errors(errors: Sequence[Mapping[str, Any] | str], body: Any) -> ApiError:
    """The error for what a request's validation found.

    Of the forms that a value may have, that one counts whose error is deepest in what was sent: it is most likely the
    form that was meant.

    Args:
        errors: what pydantic.ValidationError.errors() gives, with the locations of FastAPI ("body" first), or
            sentences, as vLLM has them in places.
        body: the request's body as it was parsed, or None.
    """
    errors = errors[:MOST]
    if sentences := [error for error in errors if isinstance(error, str)]:
        return ApiError(400, _shorten(_join("", sentences[0])))
    found = [(_find_place(error, body), error) for error in errors if not isinstance(error, str)]
    if not found:
        return ApiError(400, "The request is not valid.")
    parts, error = max(found, key=lambda each: len(each[0]))
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
    """`message`, or the sentence for the first error where it is a page of pydantic's."""
    if page := _PAGE.match(message):
        message = _shorten(_join(page["place"] or "", page["sentence"].removeprefix("Value error, ")))
    return _OWN_FIELDS.sub(r"\1.", message)


def _find_place(error: Mapping[str, Any], body: Any) -> list[str | int]:
    """Where in the body the error is. A location of pydantic's names the members of unions too; those are left out."""
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


def _join(place: str, sentence: str) -> str:
    ending = "" if sentence.endswith((".", "!", "?")) else "."
    return f"{place}: {sentence}{ending}" if place else f"{sentence}{ending}"


def _shorten(sentence: str) -> str:
    return sentence if len(sentence) <= LONGEST else f"{sentence[: LONGEST - 1]}…"
