"""vLLM's flags as its own parser has them, so that none is missing by construction."""

import argparse
import json
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a flag takes its value."""

    VALUE = "value"
    """--flag=VALUE"""
    BOOLEAN = "boolean"
    """--flag or --no-flag"""
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
    """In UPPER_CASE: the environment variable that sets it."""
    option: str
    kind: Kind
    type: str
    default: object
    choices: tuple[str, ...] = ()


def flags_of(parser: argparse.ArgumentParser) -> dict[str, Flag]:
    """Every flag of `parser` by its UPPER_CASE name, but for --help and positional arguments."""
    actions = (action for action in parser._actions if action.option_strings and action.dest != "help")
    flags = (_flag(action) for action in actions)
    return {flag.name: flag for flag in flags}


def _flag(action: argparse.Action) -> Flag:
    option = next(option for option in action.option_strings if option.startswith("--"))
    return Flag(
        name=option.removeprefix("--").replace("-", "_").upper(),
        option=option,
        kind=_kind(action),
        type=_type_name(action),
        default=None if action.default is argparse.SUPPRESS else _plain(action.default),
        choices=tuple(str(choice) for choice in action.choices or ()),
    )


def _kind(action: argparse.Action) -> Kind:
    if isinstance(action, argparse.BooleanOptionalAction):
        return Kind.BOOLEAN
    if action.nargs == 0:
        return Kind.SWITCH
    if isinstance(action, argparse._AppendAction):
        return Kind.REPEATED
    if action.nargs in ("+", "*"):
        return Kind.LIST
    return Kind.VALUE


def _type_name(action: argparse.Action) -> str:
    """A word for the documentation. vLLM wraps optional and JSON types in functions, whose names say little."""
    if _kind(action) in (Kind.BOOLEAN, Kind.SWITCH):
        return "bool"
    name = getattr(action.type, "__name__", "str")
    words = {"human_readable_int": "int", "human_readable_int_or_auto": "int", "loads": "json", "parse_type": "json"}
    name = words.get(name, name)
    return name if name in ("int", "float", "str", "json") else _type_of_default(action.default)


def _type_of_default(default: object) -> str:
    if isinstance(default, bool | int | float):
        return type(default).__name__
    return "json" if isinstance(default, dict) else "str"


def _plain(value: object) -> object:
    """`value` as JSON can hold it."""
    if isinstance(value, set | frozenset):
        return sorted(str(item) for item in value)
    try:
        json.dumps(value)
    except TypeError:
        return str(value)
    return value
