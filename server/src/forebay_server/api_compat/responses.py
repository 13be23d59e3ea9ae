"""Converts replies of the Responses API to the form that openresponses.org and OpenAI specify.

A response has every field. Parts of events have an empty list if vLLM sends null. Pure: functions that change a
dumped reply change it in place.
"""

import time
from typing import Any

from forebay_server.api_compat.openai import JsonObject

LIFECYCLE = frozenset({"response.created", "response.in_progress", "response.completed", "response.failed"})
ITEMS = frozenset({"response.output_item.added", "response.output_item.done"})
PART_EVENTS = frozenset({"response.content_part.added", "response.content_part.done"})
CORRECTED = LIFECYCLE | ITEMS | PART_EVENTS
"""The events that come once for an answer or for a part of it. Events with a delta pass unchanged."""

ABSENT_FIELDS: JsonObject = {
    "completed_at": None,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": None,
    "safety_identifier": None,
    "top_logprobs": 0,
    "usage": None,
}
"""Field that a response must have -> its value if vLLM has none."""

TOOL_OUTPUTS = ("function_call_output", "custom_tool_call_output")
"""Items with the output of a client's tool."""

OPTIONAL = ("ec_transfer_params", "input_messages", "kv_transfer_params", "output_messages", "prompt", "user")
"""Fields that are omitted when null."""


def complete_response(reply: JsonObject, request: JsonObject) -> JsonObject:
    """Complete a response. `request` has the fields that vLLM does not repeat."""
    for name, value in ABSENT_FIELDS.items():
        if reply.get(name) is None:
            reply[name] = {} if name == "metadata" else value
    for name in OPTIONAL:
        if name in reply and reply[name] is None:
            del reply[name]
    if reply.get("text") is None:
        reply["text"] = {"format": {"type": "text"}}
    elif reply["text"].get("format") is None:
        reply["text"]["format"] = {"type": "text"}
    for name in ("safety_identifier", "prompt_cache_key"):
        reply[name] = reply[name] or request.get(name)
    reply["store"] = bool(request.get("store", True))
    reply["created_at"] = int(reply["created_at"])
    if reply["status"] == "completed" and reply["completed_at"] is None:
        reply["completed_at"] = int(time.time())
    for tool in reply.get("tools") or ():
        for name in ("description", "parameters", "strict"):
            tool.setdefault(name, None)
    for item in reply["output"]:
        complete_item(item)
    return reply


def complete_item(item: JsonObject) -> JsonObject:
    """Complete one item of the output."""
    for name in [name for name, value in item.items() if value is None]:
        del item[name]
    if item.get("type") == "function_call":
        item.setdefault("status", "completed")
    if item.get("type") == "reasoning":
        item.setdefault("summary", [])
    for part in item.get("content") or ():
        complete_part(part)
    return item


def complete_part(part: JsonObject) -> JsonObject:
    """Complete one part of a message's content."""
    if part.get("type") == "output_text" and part.get("logprobs") is None:
        part["logprobs"] = []
    return part


def complete_event(event: JsonObject, request: JsonObject) -> JsonObject:
    """Complete an event of CORRECTED. A truncated answer ends with response.incomplete."""
    kind = event["type"]
    if kind in LIFECYCLE:
        response = complete_response(event["response"], request)
        if kind == "response.completed" and response["status"] in ("incomplete", "failed"):
            event["type"] = f"response.{response['status']}"
    elif kind in ITEMS:
        complete_item(event["item"])
    else:
        complete_part(event["part"])
    return event


def make_readable(request: Any) -> None:
    """Convert items of a request's input that vLLM cannot read, in place.

    If an item has every field of an answer's item, vLLM parses it into an object of OpenAI's library. From a message
    of this kind it reads only the first part, which must be text (otherwise IndexError or AttributeError). It cannot
    read the parts of a tool's output (AssertionError). All seen with 0.32.
    """
    items = getattr(request, "input", None)
    if isinstance(items, list):
        items[:] = [item if isinstance(item, dict) else _readable(item) for item in items]


def _readable(item: Any) -> Any:
    """Convert an item to the form in which clients write items themselves."""
    if item.type == "message":
        text = "".join(part.refusal if part.type == "refusal" else part.text for part in item.content)
        return {**item.model_dump(exclude_none=True), "content": text}
    if item.type in TOOL_OUTPUTS:
        return {"call_id": None, **item.model_dump(exclude_none=True)}
    return item


def request_fields(request: Any) -> JsonObject:
    """The fields of a request, as vLLM parsed it, that complete_response needs."""
    return {name: getattr(request, name, None) for name in ("store", "safety_identifier", "prompt_cache_key")}
