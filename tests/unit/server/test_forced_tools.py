"""Arguments of forced tool calls, on requests with the fields that vLLM's have."""

from types import SimpleNamespace as Part
from typing import Any

import pytest

from forebay_server.api_compat.forced_tools import bind_arguments


@pytest.mark.parametrize(
    ("choice", "strict", "bound"),
    [
        ("required", None, True),
        (Part(type="function"), None, True),
        (Part(type="any"), None, True),
        (Part(type="tool"), None, True),
        ("required", False, False),
        ("auto", None, None),
        ("none", None, None),
        (Part(type="auto"), None, None),
        (None, None, None),
    ],
)
def test_a_forced_call_follows_the_tools_schema(choice: Any, strict: bool | None, bound: bool | None) -> None:
    chat = Part(function=Part(name="f", strict=strict))
    plain = Part(name="f", strict=strict)
    bind_arguments(Part(tool_choice=choice, tools=[chat, plain]))
    assert (chat.function.strict, plain.strict) == (bound, bound)


def test_a_request_without_tools_is_unchanged() -> None:
    bind_arguments(Part())
    bind_arguments(Part(tool_choice="required", tools=None))
