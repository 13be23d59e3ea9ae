"""Messages about values that the parser rejects."""

import argparse
import json
from typing import Any, NoReturn

import pytest

from forebay_server.config.invalid_values import (
    describe,
    describe_problem,
    looks_like_json,
    no_json,
    not_among,
    unknown_options,
)
from forebay_server.config.vllm_flags import flags_of


class EngineRefused(Exception):
    pass


class RaisingParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise EngineRefused(message)


class ValidationError(ValueError):
    """As pydantic's."""

    title = "CacheConfig"

    def __init__(self, kind: str, location: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.items = [{"type": kind, "loc": location, "msg": message}]

    def errors(self) -> list[dict[str, Any]]:
        return self.items


def read_dataclass(value: str) -> object:
    kind, field, message = json.loads(value)["fails"]
    try:
        raise ValidationError(kind, (field,), message)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(repr(error)) from error


def human_readable_int(value: str) -> int:
    if value == "1.5K":
        raise argparse.ArgumentTypeError("Decimals are not allowed.")
    return int(value)


def refuse(value: str, **options: Any) -> str:
    parser = RaisingParser()
    parser.add_argument("--flag", **options)
    flag = flags_of(parser)["FLAG"]
    with pytest.raises(EngineRefused) as refused:
        parser.parse_args([f"--flag={value}"])
    return describe(f"FLAG={value!r}", flag, value, refused.value, lambda title: ["block_size"])


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        ("many", {"type": int}, "FLAG='many': expected a whole number."),
        ("lots", {"type": float}, "FLAG='lots': expected a number."),
        ("hal", {"choices": ["auto", "half"]}, "FLAG='hal': expected one of auto, half. Did you mean half?"),
        ("7", {"type": int, "choices": [16, 8]}, "FLAG='7': expected one of 8, 16."),
        (
            "1.5K",
            {"type": human_readable_int},
            "FLAG='1.5K': expected a whole number, such as 8192, 8k (8,000) or 8K (8,192). Decimals are not allowed.",
        ),
        (
            "{bad",
            {"type": json.loads},
            'FLAG=\'{bad\': expected JSON, such as {"name": "value"}. '
            "Expecting property name enclosed in double quotes at character 2.",
        ),
    ],
)
def test_an_invalid_value_is_described_in_words(value: str, options: dict[str, Any], message: str) -> None:
    assert refuse(value, **options) == message


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        (("unexpected_keyword_argument", "block_sise", ""), "block_sise is not known. Did you mean block_size?"),
        (("less_than", "block_size", "Input should be less than 9"), "block_size: it must be less than 9."),
    ],
)
def test_the_message_of_a_configuration_class_is_shown(fails: tuple[str, ...], message: str) -> None:
    assert refuse(json.dumps({"fails": fails}), type=read_dataclass).endswith(f": {message}")


def test_a_long_list_is_cut() -> None:
    message = not_among("X", "name31", [f"name{number}" for number in range(30)])
    assert message.startswith("X='name31': expected one of name0, ")
    assert "and 10 more. Did you mean name" in message


def test_an_unknown_option_has_its_nearest_named() -> None:
    message = unknown_options("unrecognized arguments: --max_modle-len=3", ["--max-model-len", "--port"])
    assert message == "vLLM has no --max_modle-len=3. Did you mean --max-model-len?"


def test_valid_json_is_accepted() -> None:
    assert no_json("X", "{}") == ""


def test_pydantics_messages_are_rewritten() -> None:
    assert describe_problem("Value error, it is odd") == "it is odd"


@pytest.mark.parametrize(
    ("text", "found"),
    [('{"a": 1}', True), (" {bad", True), ("{{ x }}", False), ("{% if x %}", False), ("{# x #}", False), ("a", False)],
)
def test_a_template_is_not_parsed_as_json(text: str, found: bool) -> None:
    assert looks_like_json(text) == found
