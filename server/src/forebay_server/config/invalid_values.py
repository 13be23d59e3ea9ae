"""Messages about values that vLLM rejects, written for people. Pure."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from forebay_protocol.spelling import suggest
from forebay_server.config.vllm_flags import EXPECTED, Flag
from forebay_server.failure import causes

SHOWN_CHOICES = 20
"""The most choices that a message lists. `forebay-server flags` lists all of them."""


def describe(label: str, flag: Flag, value: str, error: BaseException, keys: Callable[[str], Iterable[str]]) -> str:
    """Describe a rejected value in one or two sentences.

    Args:
        label: where the value is.
        flag: the flag that has it.
        value: the value.
        error: the exception of vLLM's parser.
        keys: returns the fields of a configuration class of vLLM.
    """
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
    messages = [str(cause).rstrip(".") for cause in raised if isinstance(cause, argparse.ArgumentTypeError)]
    detail = f" {messages[-1]}." if messages and "cannot be converted" not in messages[-1] else ""
    return f"{label}: expected {flag.expected}.{detail.replace('?.', '?')}"


def no_json(label: str, text: str) -> str:
    """A message if `text` is not valid JSON, with the position of the error; "" if it is valid."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"{label}: expected {EXPECTED['json']}. {error.msg} at character {error.pos + 1}."
    return ""


def looks_like_json(text: str) -> bool:
    """Whether `text` begins like a JSON object, and not like a Jinja template."""
    start = text.lstrip()
    return start.startswith("{") and not start.startswith(("{{", "{%", "{#"))


def not_among(label: str, value: str, choices: Iterable[str]) -> str:
    """A message that `value` is not one of `choices`, with the nearest choice. `label` says where the value is."""
    ordered = sorted(choices, key=lambda choice: (int(choice) if choice.isdigit() else 0, choice))
    shown = ", ".join(ordered[:SHOWN_CHOICES])
    more = len(ordered) - SHOWN_CHOICES
    where = label if repr(value) in label else f"{label}={value!r}"
    return f"{where}: expected one of {shown}{f' and {more} more' if more > 0 else ''}.{suggest(value, ordered)}"


def unknown_options(message: str, options: Iterable[str]) -> str:
    """Rewrite `message` of argparse about unknown arguments. The text suggests the flag most similar to the first."""
    words = message.removeprefix("unrecognized arguments: ").split()
    first = words[0].partition("=")[0].replace("_", "-") if words else ""
    return f"vLLM has no {' '.join(words)}.{suggest(first, options)}"


def describe_problem(problem: str) -> str:
    """Rewrite pydantic's message about a value without pydantic's terms."""
    return problem.removeprefix("Value error, ").replace("Input should be", "it must be", 1)


def _field_problem(error: Mapping[str, Any], known: Iterable[str]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "unexpected_keyword_argument":
        return f"{where} is not known.{suggest(where, known)}"
    problem = describe_problem(error["msg"])
    return f"{where}: {problem}." if where else f"{problem}."
