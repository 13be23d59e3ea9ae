"""Reads vLLM's flags from its own parser, so that all flags are known.

All modules here that map a variable to a flag call it.
"""

import argparse
import inspect
import json
from dataclasses import dataclass
from enum import StrEnum


class FlagKind(StrEnum):
    """How a flag takes its value."""

    VALUE = "value"
    """--flag=VALUE"""
    BOOLEAN = "boolean"
    """--flag, or its negation"""
    SWITCH = "switch"
    """--flag, or nothing"""
    LIST = "list"
    """--flag A B C"""
    REPEATED = "repeated"
    """--flag=A --flag=B"""


@dataclass(frozen=True)
class Flag:
    """One flag of `vllm serve`."""

    name: str
    """The environment variable that sets the flag, in UPPER_CASE."""
    option: str
    kind: FlagKind
    type: str
    """The type of a value, or of each item of a list: bool, int, float, str or json."""
    default: object
    choices: tuple[str, ...] = ()
    negation: str = ""
    """The option that sets a BOOLEAN to false."""
    group: str = ""
    """The title of its group. For most flags, this is the name of their configuration class of vLLM."""
    expected: str = ""
    """The form of a value for people, used as "expected …"."""


EXPECTED = {
    "bool": "true, 1, yes or on, or false, 0, no or off",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "json": 'JSON, such as {"name": "value"}',
}
"""Type -> the form of a value for people."""

READERS = {
    "int": ("int", EXPECTED["int"]),
    "float": ("float", EXPECTED["float"]),
    "str": ("str", EXPECTED["str"]),
    "loads": ("json", EXPECTED["json"]),
    "parse_dataclass": ("json", EXPECTED["json"]),
    "human_readable_int": ("int", "a whole number, such as 8192, 8k (8,000) or 8K (8,192)"),
    "human_readable_int_or_auto": ("int", "a whole number, such as 8192, 8k (8,000) or 8K (8,192), or auto"),
}
"""Name of vLLM's function that reads a value -> type and form of the value."""


def flags_of(parser: argparse.ArgumentParser) -> dict[str, Flag]:
    """Every flag of `parser` by its UPPER_CASE name, except --help and positional arguments."""
    groups = {action: group.title or "" for group in parser._action_groups for action in group._group_actions}
    actions = (action for action in parser._actions if action.option_strings and action.dest != "help")
    flags = (_flag(action, groups.get(action, "")) for action in actions)
    return {flag.name: flag for flag in flags}


def upper_case(option: str) -> str:
    """The name of the variable that sets an option."""
    return option.removeprefix("--").replace("-", "_").upper()


def _flag(action: argparse.Action, group: str) -> Flag:
    option = next(option for option in action.option_strings if option.startswith("--"))
    kind = _kind(action)
    type_name, expected = _reading(action, kind)
    choices = tuple(str(choice) for choice in action.choices or () if choice is not None)
    return Flag(
        name=upper_case(option),
        option=option,
        kind=kind,
        type=type_name,
        default=None if action.default is argparse.SUPPRESS else _plain(action.default),
        choices=choices,
        negation=_negation(action, option) if kind is FlagKind.BOOLEAN else "",
        group=group,
        expected=f"one of {', '.join(choices)}" if choices else expected,
    )


def _kind(action: argparse.Action) -> FlagKind:
    if isinstance(action, argparse.BooleanOptionalAction):
        return FlagKind.BOOLEAN
    if action.nargs == 0:
        return FlagKind.SWITCH
    if isinstance(action, argparse._AppendAction):
        return FlagKind.REPEATED
    if action.nargs in ("+", "*"):
        return FlagKind.LIST
    return FlagKind.VALUE


def _negation(action: argparse.Action, option: str) -> str:
    """vLLM 0.33 pairs --enable-x with --disable-x if 0.32 has --no-enable-x."""
    name = option.removeprefix("--")
    inverses = {"enable-": "--disable-", "disable-": "--enable-"}
    pairs = [inverse + name.removeprefix(prefix) for prefix, inverse in inverses.items() if name.startswith(prefix)]
    return next((pair for pair in pairs if pair in action.option_strings), f"--no-{name}")


def _reading(action: argparse.Action, kind: FlagKind) -> tuple[str, str]:
    """Type and form of a value. The default's type decides if vLLM's reading function is not in READERS."""
    if kind in (FlagKind.BOOLEAN, FlagKind.SWITCH):
        return "bool", EXPECTED["bool"]
    if reader := READERS.get(getattr(_unwrapped(action.type), "__name__", "str")):
        return reader
    type_name = _type_of_default(action.default)
    return type_name, EXPECTED[type_name]


def _unwrapped(reader: object) -> object:
    """Unwrap vLLM's function that reads a value. The wrapper for optional and JSON values has it as `return_type`."""
    while inspect.isfunction(reader):
        inner = inspect.getclosurevars(reader).nonlocals.get("return_type")
        if inner is None:
            break
        reader = inner
    return reader


def _type_of_default(default: object) -> str:
    if isinstance(default, bool | int | float):
        return type(default).__name__
    return "json" if isinstance(default, dict) else "str"


def _plain(value: object) -> object:
    """Convert a value to one that JSON can represent."""
    if isinstance(value, set | frozenset):
        return sorted(str(item) for item in value)
    try:
        json.dumps(value)
    except TypeError:
        return str(value)
    return value
