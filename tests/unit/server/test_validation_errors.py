"""pydantic's errors about a request become one message."""

from typing import Any

import pytest

from forebay_server.serving.errors import clean, of_validation
from forebay_server.serving.validation_errors import MAX_VALIDATION_MESSAGE_LENGTH

MESSAGES = ("body", "messages")


class Refused(ValueError):
    parameter = "logprobs"


@pytest.mark.parametrize(
    ("errors", "body", "expected"),
    [
        (
            [{"type": "missing", "loc": MESSAGES, "msg": "Field required"}],
            {"model": "m"},
            ("messages is missing.", "missing_required_parameter", "messages"),
        ),
        (
            [{"type": "missing", "loc": ("body",), "msg": "Field required"}],
            None,
            ("The body is missing.", "missing_required_parameter", None),
        ),
        (
            [{"type": "int_parsing", "loc": ("body", "n"), "msg": "Input should be a valid integer"}],
            {"n": "many"},
            ("n: Input should be a valid integer.", None, "n"),
        ),
        (
            [{"type": "json_invalid", "loc": ("body", 1), "ctx": {"error": "Expecting value"}}],
            None,
            ("The request's body is not JSON: Expecting value.", "invalid_json", None),
        ),
        (
            [{"type": "value_error", "loc": ("body",), "ctx": {"error": Refused("no logprobs", 3)}, "msg": "x"}],
            {},
            ("no logprobs", None, "logprobs"),
        ),
        (
            [{"type": "value_error", "loc": ("body",), "ctx": {"error": ValueError("see --seed")}, "msg": "x"}],
            {},
            ("see SEED (in spec.env of the endpoint).", None, None),
        ),
        (["Only 'application/json' is allowed"], None, ("Only 'application/json' is allowed.", None, None)),
        ([], {}, ("The request is not valid.", None, None)),
    ],
)
def test_one_message_says_what_is_wrong_and_where(
    errors: list[dict[str, Any] | str], body: Any, expected: tuple[str, str | None, str | None]
) -> None:
    error = of_validation(errors, body)
    assert (error.status, (error.message, error.code, error.param)) == (400, expected)


def test_an_error_of_a_union_names_the_intended_form() -> None:
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}
    content = (*MESSAGES, 0, "UserMessage", "content")
    errors = [
        {"type": "literal_error", "loc": (*MESSAGES, 0, "SystemMessage", "role"), "msg": "Input should be 'system'"},
        {"type": "string_type", "loc": (*content, "str"), "msg": "Input should be a valid string"},
        {"type": "string_type", "loc": (*content, "list[Part]", 0, "Text", "text"), "msg": "Input should be a string"},
        {"type": "missing", "loc": (*content, "list[Part]", 0, "Image"), "msg": "Field required"},
    ]
    error = of_validation(errors, body)
    assert error.message == "messages.0.content.0.text: Input should be a string."
    assert error.param == "messages.0.content.0.text"


def test_a_pydantic_report_becomes_its_first_message() -> None:
    page = (
        "2 validation errors for ChatCompletionRequest\nmessages.0.role\n  Field required [type=missing, "
        "input_value={}, input_type=dict]\n    For further information visit https://errors.pydantic.dev/2.11/v/missing\n"
        "n\n  Value error, too many [type=value_error, input_value=9, input_type=int]"
    )
    assert clean(page) == "messages.0.role: Field required."
    assert clean("3 validation errors are too many") == "3 validation errors are too many"


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "1 validation error for Responses\n  Value error, no [type=value_error, input_value={'a': 1}]\n    For",
            "no.",
        ),
        (
            "1 validation error for list[function-wrap[log()]]\n0.url\n  Field required [type=missing, input_value={}]",
            "0.url: Field required.",
        ),
        (
            "You must use one kind of structured outputs constraint but none are specified: {'json': None, '_b': None}",
            "You must use one kind of structured outputs constraint but none are specified.",
        ),
        (
            "1 validation error for Params\n  Value error, Only one structured outputs constraint but "
            "multiple are specified: {'json': {'a': '\\n'}, 'regex': 'x'} [type=value_error, input_value=ArgsKwargs()]",
            "Only one structured outputs constraint but multiple are specified.",
        ),
    ],
)
def test_a_pydantic_report_is_never_passed_on(said: str, sentence: str) -> None:
    assert clean(said) == sentence


def test_a_long_list_of_invalid_items_is_processed_in_linear_time() -> None:
    body = {"input": ["a", 1] * 20_000}
    errors = [
        {"type": "int_type", "loc": ("body", "input", "list[int]", number), "msg": "Input should be an integer"}
        for number in range(40_000)
    ]
    assert of_validation(errors, body).param == "input.0"


def test_a_message_has_a_maximum_length() -> None:
    name = "x" * 3 * MAX_VALIDATION_MESSAGE_LENGTH
    error = of_validation([{"type": "extra_forbidden", "loc": ("body", name), "msg": "Not permitted"}], {name: 1})
    assert len(error.message) <= MAX_VALIDATION_MESSAGE_LENGTH
    assert len(error.param or "") <= MAX_VALIDATION_MESSAGE_LENGTH
