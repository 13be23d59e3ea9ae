"""Functions are tools for vLLM, and functions again for the client."""

import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from forebay_server.api_compat.incompatible import Incompatible
from forebay_server.api_compat.legacy_functions import (
    MARKER,
    restore_function_calls,
    wants_functions,
    with_function_calls,
)
from forebay_server.api_compat.paths import CHAT
from forebay_server.api_compat.request_fields import adapt_body

FUNCTION = {"name": "weather", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
AS_TOOLS = {"tools": [TOOL], "parallel_tool_calls": False, MARKER: True}
CALL = {"name": "weather", "arguments": "{}"}


def adapted(**fields: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(adapt_body(CHAT, json.dumps(fields).encode()).content)
    return content


@pytest.mark.parametrize(
    ("choice", "tool_choice"),
    [
        ({}, {}),
        ({"function_call": None}, {}),
        ({"function_call": "auto"}, {"tool_choice": "auto"}),
        ({"function_call": "none"}, {"tool_choice": "none"}),
        (
            {"function_call": {"name": "weather"}},
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
        ),
    ],
)
def test_functions_become_tools(choice: dict[str, Any], tool_choice: dict[str, Any]) -> None:
    assert adapted(functions=[FUNCTION], **choice) == {**AS_TOOLS, **tool_choice}


@pytest.mark.parametrize("fields", [{"functions": []}, {"functions": None, "function_call": "none"}])
def test_functions_without_a_name_are_omitted(fields: dict[str, Any]) -> None:
    assert adapted(n=1, **fields) == {"n": 1}


def test_a_conversation_with_functions_becomes_one_with_tools() -> None:
    question = {"role": "user", "content": "Weather?"}
    called = {"role": "assistant", "content": None, "function_call": CALL}
    result = {"role": "function", "name": "weather", "content": "sunny"}
    messages = adapted(messages=[question, called, result])["messages"]
    call = {"id": "call_1", "type": "function", "function": CALL}
    assert messages == [
        question,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "name": "weather", "content": "sunny", "tool_call_id": "call_1"},
    ]


def test_results_of_functions_become_results_of_tools() -> None:
    result = {"role": "function", "name": "weather", "content": "sunny"}
    (message,) = adapted(messages=[result])["messages"]
    assert message == {**result, "role": "tool", "tool_call_id": "call_0"}


@pytest.mark.parametrize(
    ("calls", "kept"),
    [
        ([{"id": "a"}, {"id": "b"}], [{"id": "a"}, {"id": "b"}]),
        ([], [{"id": "call_0", "type": "function", "function": CALL}]),
        (None, [{"id": "call_0", "type": "function", "function": CALL}]),
    ],
)
def test_a_message_that_has_both_forms_keeps_the_calls_of_tools(calls: Any, kept: list[dict[str, Any]]) -> None:
    sent = [{"role": "assistant", "tool_calls": calls, "function_call": CALL}, {"role": "function", "content": "sunny"}]
    message, result = adapted(messages=sent)["messages"]
    assert message == {"role": "assistant", "tool_calls": kept}
    assert result["tool_call_id"] == kept[0]["id"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"functions": [FUNCTION], "tools": [TOOL]}, "functions"),
        ({"functions": {"a": 1}}, "functions"),
        ({"function_call": {"name": "weather"}}, "function_call"),
    ],
)
def test_invalid_functions_are_rejected(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Incompatible) as refused:
        adapted(**fields)
    assert (refused.value.error.status, refused.value.error.param) == (400, param)


@pytest.mark.parametrize("messages", ["text", [7, None, {"function_call": 7}, {"role": "function"}]])
def test_invalid_messages_pass_to_vllm(messages: Any) -> None:
    assert len(adapted(functions=[FUNCTION], messages=messages)["messages"]) == len(messages)


def test_only_a_marked_request_is_answered_with_functions() -> None:
    assert wants_functions(SimpleNamespace(model_extra={MARKER: True}))
    assert not wants_functions(SimpleNamespace(model_extra=None))
    assert not wants_functions(SimpleNamespace())


def test_a_tool_call_becomes_a_function_call() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": CALL}]}
    reply = restore_function_calls({"choices": [{"message": message, "finish_reason": "tool_calls"}]})
    assert reply["choices"] == [
        {
            "message": {"role": "assistant", "content": None, "function_call": CALL},
            "finish_reason": "function_call",
        }
    ]
    text = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}
    assert restore_function_calls(json.loads(json.dumps(text))) == text


async def test_a_stream_has_the_parts_of_the_function_call() -> None:
    async def events() -> AsyncIterator[str]:
        for delta in (
            {"content": "ü"},
            {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "weather", "arguments": None}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
            {"tool_calls": [{"index": 1, "function": {"name": "another"}}]},
        ):
            yield f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]}, ensure_ascii=False)}\n\n"
        yield 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\n'
        yield "data: [DONE]\n\n"

    sent = [event async for event in with_function_calls(events())]
    choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in sent[:-1]]
    assert [choice["delta"] for choice in choices] == [
        {"content": "ü"},
        {"function_call": {"name": "weather"}},
        {"function_call": {"arguments": "{}"}},
        {},
        {},
    ]
    assert choices[-1]["finish_reason"] == "function_call"
    assert sent[-1] == "data: [DONE]\n\n"
