"""What to say about a value that vLLM does not take, in a person's words: pure."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from forebay_protocol.spelling import suggest
from forebay_server.config.vllm_flags import EXPECTED, Flag
from forebay_server.failure import causes

SHOWN_CHOICES = 20
"""Of a longer list only so many are said; `forebay-server flags` has them all."""


def describe(label: str, flag: Flag, value: str, error: BaseException, keys: Callable[[str], Iterable[str]]) -> str:
    """One sentence or two: `label` says where the value of `flag` stands; `error` is what vLLM's parser raised;
    `keys` gives the fields of a configuration class of vLLM."""
    raised = list(causes(error))
    if not any(isinstance(cause, argparse.ArgumentError) for cause in raised):
        return f"{label}: {error}."
    if flag.choices:
        return not_among(label, value, flag.choices)
    for cause in raised:
        if isinstance(cause, json.JSONDecodeError):
            return no_json(label, cause.doc)
        if isinstance(cause, ValueError) and callable(errors := getattr(cause, "errors", None)):  # of pydantic
            known = keys(getattr(cause, "title", ""))
            return no_json(label, value) or f"{label}: {' '.join(_field_problem(item, known) for item in errors())}"
    said = [str(cause).rstrip(".") for cause in raised if isinstance(cause, argparse.ArgumentTypeError)]
    detail = f" {said[-1]}." if said and "cannot be converted" not in said[-1] else ""
    return f"{label}: expected {flag.expected}.{detail.replace('?.', '?')}"


def no_json(label: str, text: str) -> str:
    """That `text` is no JSON, and where it stops being it; "" when it is."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"{label}: expected {EXPECTED['json']}. {error.msg} at character {error.pos + 1}."
    return ""


def looks_like_json(text: str) -> bool:
    """Whether `text` begins as a JSON object does, and not as a template of Jinja."""
    start = text.lstrip()
    return start.startswith("{") and not start.startswith(("{{", "{%", "{#"))


def not_among(label: str, value: str, choices: Iterable[str]) -> str:
    """That `value`, which `label` says where it stands, is none of `choices`, and which is the nearest."""
    all_of_them = sorted(choices, key=lambda choice: (int(choice) if choice.isdigit() else 0, choice))
    shown = ", ".join(all_of_them[:SHOWN_CHOICES])
    more = len(all_of_them) - SHOWN_CHOICES
    where = label if repr(value) in label else f"{label}={value!r}"
    return f"{where}: expected one of {shown}{f' and {more} more' if more > 0 else ''}.{suggest(value, all_of_them)}"


def unknown_options(message: str, options: Iterable[str]) -> str:
    """What argparse says of arguments that belong to no flag, with the nearest flag of the first."""
    words = message.removeprefix("unrecognized arguments: ").split()
    first = words[0].partition("=")[0].replace("_", "-") if words else ""
    return f"vLLM has no {' '.join(words)}.{suggest(first, options)}"


def describe_problem(problem: str) -> str:
    """What pydantic says of a value, without its word for it."""
    return problem.removeprefix("Value error, ").replace("Input should be", "it must be", 1)


def _field_problem(error: Mapping[str, Any], known: Iterable[str]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "unexpected_keyword_argument":
        return f"{where} is not known.{suggest(where, known)}"
    problem = describe_problem(error["msg"])
    return f"{where}: {problem}." if where else f"{problem}."
