"""vLLM's flags by introspection."""

import argparse
import json
from collections.abc import Callable
from typing import Any

import pytest

from forebay_server.config.vllm_flags import FlagKind, flags_of


def test_every_option_is_a_flag_with_its_kind_type_and_default() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tag", nargs="?")
    parser.add_argument("--max-model-len", "-l", type=int, default=5)
    parser.add_argument("--eager", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--names", nargs="+", default={"b", "a"})
    parser.add_argument("--middleware", action="append", default=[])
    parser.add_argument("--dtype", choices=["auto", "half"], default="auto")
    parser.add_argument("--overrides", type=json.loads, default={})
    parser.add_argument("--old", default=argparse.SUPPRESS)
    assert [(flag.name, flag.option, flag.kind, flag.type, flag.default) for flag in flags_of(parser).values()] == [
        ("MAX_MODEL_LEN", "--max-model-len", FlagKind.VALUE, "int", 5),
        ("EAGER", "--eager", FlagKind.BOOLEAN, "bool", False),
        ("QUIET", "--quiet", FlagKind.SWITCH, "bool", False),
        ("NAMES", "--names", FlagKind.LIST, "str", ["a", "b"]),
        ("MIDDLEWARE", "--middleware", FlagKind.REPEATED, "str", []),
        ("DTYPE", "--dtype", FlagKind.VALUE, "str", "auto"),
        ("OVERRIDES", "--overrides", FlagKind.VALUE, "json", {}),
        ("OLD", "--old", FlagKind.VALUE, "str", None),
    ]


def optional(return_type: Callable[[str], object]) -> Callable[[str], object]:
    """As vLLM wraps the functions that read optional values."""

    def _optional_type(value: str) -> object:
        return return_type(value) if value else None

    return _optional_type


def human_readable_int_or_auto(value: str) -> int:
    return int(value)


def unknown_reader(value: str) -> str:
    return value


@pytest.mark.parametrize(
    ("options", "type_name", "expected"),
    [
        ({"type": int}, "int", "a whole number"),
        ({"type": optional(int)}, "int", "a whole number"),
        ({"type": optional(optional(float))}, "float", "a number"),
        ({"type": optional(json.loads)}, "json", 'JSON, such as {"name": "value"}'),
        ({"type": optional(human_readable_int_or_auto)}, "int", "a whole number, such as 8192, 8k (8,000) or"),
        ({"type": unknown_reader}, "str", "text"),
        ({"type": unknown_reader, "default": {}}, "json", "JSON"),
        ({"choices": ["auto", "half", None]}, "str", "one of auto, half"),
        ({"action": argparse.BooleanOptionalAction}, "bool", "true, 1, yes or on, or false"),
    ],
)
def test_the_expected_value_is_described_in_words(options: dict[str, Any], type_name: str, expected: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--flag", **options)
    flag = flags_of(parser)["FLAG"]
    assert flag.type == type_name
    assert flag.expected.startswith(expected)


class PairedAction(argparse.BooleanOptionalAction):
    """As in vLLM 0.33: --enable-x has --disable-x for its negation, and the reverse."""

    def __init__(self, option_strings: list[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, **options)
        (option,) = option_strings
        name = option.removeprefix("--enable-").removeprefix("--disable-")
        inverse = f"--disable-{name}" if option.startswith("--enable-") else f"--enable-{name}"
        self.option_strings = [option, inverse]


@pytest.mark.parametrize(
    ("option", "action", "negation"),
    [
        ("--enable-lora", argparse.BooleanOptionalAction, "--no-enable-lora"),
        ("--enable-lora", PairedAction, "--disable-lora"),
        ("--disable-cascade", PairedAction, "--enable-cascade"),
        ("--enforce-eager", argparse.BooleanOptionalAction, "--no-enforce-eager"),
    ],
)
def test_a_boolean_flag_has_its_negation(option: str, action: type[argparse.Action], negation: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(option, action=action)
    (flag,) = flags_of(parser).values()
    assert flag.negation == negation


def test_a_flag_has_its_group() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument_group("CacheConfig").add_argument("--block-size", type=int)
    assert flags_of(parser)["BLOCK_SIZE"].group == "CacheConfig"
