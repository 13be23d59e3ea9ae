"""Converts `functions` and `function_call`, which OpenAI's API had before November 2023, to tools and back.

Clients that send this form expect it in the answer too. Does no I/O. Functions that change a reply change it in
place.
"""

from collections.abc import AsyncIterator
from typing import Any

from forebay_server.api_compat.incompatible import Incompatible
from forebay_server.api_compat.openai import JsonObject, rewrite_chunks

MARKER = "forebay_functions"
"""A field of a converted request. It marks that the answer must have the older form. vLLM ignores it."""


def adapt_functions(fields: JsonObject) -> JsonObject:
    """Convert a chat completion's functions to tools, also in its messages.

    Raises:
        Incompatible: the request has both forms, or its functions are not valid.
    """
    rest = {name: value for name, value in fields.items() if name not in ("functions", "function_call")}
    if isinstance(messages := fields.get("messages"), list):
        rest["messages"] = _adapt_messages(messages)
    functions, choice = fields.get("functions"), fields.get("function_call")
    if not functions:
        if isinstance(choice, dict):
            raise Incompatible("function_call names a function, but functions has none.", "function_call")
        return rest
    if fields.get("tools"):
        raise Incompatible("Send functions or tools, not both.", "functions")
    if not isinstance(functions, list):
        raise Incompatible("functions must be a list.", "functions")
    rest |= {
        "tools": [{"type": "function", "function": function} for function in functions],
        "parallel_tool_calls": False,  # a message has one function_call
        MARKER: True,
    }
    if choice is not None:
        rest["tool_choice"] = {"type": "function", "function": choice} if isinstance(choice, dict) else choice
    return rest


def _adapt_messages(messages: list[Any]) -> list[Any]:
    """Convert the calls and results of functions in a conversation to those of tools."""
    adapted: list[Any] = []
    call_id = ""
    for number, message in enumerate(messages):
        call = message.get("function_call") if isinstance(message, dict) else None
        if isinstance(call, dict):
            call_id = f"call_{number}"
            others = {name: value for name, value in message.items() if name != "function_call"}
            calls = others.get("tool_calls") or [{"id": call_id, "type": "function", "function": call}]
            if isinstance(calls, list) and isinstance(calls[0], dict):
                call_id = str(calls[0].get("id") or call_id)
            adapted.append({**others, "tool_calls": calls})
        elif isinstance(message, dict) and message.get("role") == "function":
            adapted.append({**message, "role": "tool", "tool_call_id": call_id or f"call_{number}"})
        else:
            adapted.append(message)
    return adapted


def wants_functions(request: Any) -> bool:
    """Whether the answer must have the older form. `request`: as vLLM parsed it."""
    return bool((getattr(request, "model_extra", None) or {}).get(MARKER))


def restore_function_calls(reply: JsonObject) -> JsonObject:
    """Convert the tool call of a chat completion, or of a chunk of one, to a function call."""
    for choice in reply.get("choices") or ():
        part = choice.get("message") or choice.get("delta") or {}
        first = next((call for call in part.pop("tool_calls", None) or () if not call.get("index")), None)
        if first is not None:
            function = first.get("function") or {}
            part["function_call"] = {name: value for name, value in function.items() if value is not None}
        if choice.get("finish_reason") == "tool_calls":
            choice["finish_reason"] = "function_call"
    return reply


def with_function_calls(events: AsyncIterator[str]) -> AsyncIterator[str]:
    """Convert tool calls in the events of a streamed chat completion to function calls."""
    return rewrite_chunks(events, '"tool_calls"', restore_function_calls)
