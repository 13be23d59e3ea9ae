"""Streamed answers as a server of each protocol gives them, from the blocks or items that an answer has."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

Part = dict[str, Any]
"""A block of the Messages API, or an item of the Responses API."""

LISTED = {"object": "list", "data": [{"id": "forebay", "object": "model", "created": 1780000000, "owned_by": "vllm"}]}


def stream(path: str, model: str, number: int, parts: Sequence[Part]) -> bytes:
    """The events of the answer of this number. Raises LookupError for a path without streams."""
    events = {"/v1/messages": _messages, "/v1/responses": _responses}[path](model, number, parts)
    return b"".join(b"event: %s\ndata: %s\n\n" % (each["type"].encode(), json.dumps(each).encode()) for each in events)


def _messages(model: str, number: int, blocks: Sequence[Part]) -> Iterator[Part]:
    usage = {"input_tokens": 10, "output_tokens": 1}
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": model, "content": []}
    yield {"type": "message_start", "message": {**message, "usage": usage, "stop_reason": None, "stop_sequence": None}}
    for index, block in enumerate(blocks):
        start, deltas = _split(block)
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    reason = "tool_use" if blocks[-1]["type"] == "tool_use" else "end_turn"
    delta = {"stop_reason": reason, "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 20}}
    yield {"type": "message_stop"}


def _split(block: Part) -> tuple[Part, list[Part]]:
    """The event that begins a block, and its further events."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": block["text"]}]
        case "thinking":
            deltas = [{"type": f"{name}_delta", name: block[name]} for name in ("thinking", "signature")]
            return {**block, "thinking": "", "signature": ""}, deltas
        case "tool_use" | "server_tool_use":
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
    return block, []


def _responses(model: str, number: int, items: Sequence[Part]) -> Iterator[Part]:
    response: Part = {"id": f"resp_{number}", "object": "response", "created_at": 1780000000, "model": model}
    yield {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}}
    for index, item in enumerate(items):
        yield {"type": "response.output_item.added", "output_index": index, "item": item}
        if item["type"] == "message":
            where = {"item_id": item["id"], "output_index": index, "content_index": 0}
            yield {"type": "response.output_text.delta", **where, "delta": item["content"][0]["text"]}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, **details}
    yield {
        "type": "response.completed",
        "response": {**response, "status": "completed", "output": list(items), "usage": usage},
    }
