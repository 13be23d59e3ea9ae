"""Converts chat completions and completions to the form of OpenAI's specification.

vLLM sends optional fields without a value as null. The specification omits them, and always requires a few others.
Pure: functions that change a dumped reply change it in place.
"""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

JsonObject = dict[str, Any]


def complete_chat(reply: JsonObject) -> JsonObject:
    """Complete a chat.completion. vLLM's own fields stay if they have a value."""
    _drop_nulls(reply, keep=())
    reply.setdefault("service_tier", "default")
    for choice in reply["choices"]:
        _drop_nulls(choice, keep=("logprobs", "finish_reason"))
        message = choice["message"]
        _drop_nulls(message, keep=("content", "refusal"))
        message.setdefault("refusal", None)
        message.setdefault("annotations", [])
        add_reasoning_content(message)
    _complete_usage(reply)
    return reply


def add_reasoning_content(part: JsonObject) -> None:
    """Add the reasoning of a message or a delta under its name before vLLM 0.16, which many clients still read."""
    if part.get("reasoning") is not None:
        part["reasoning_content"] = part["reasoning"]


async def rewrite_chunks(
    events: AsyncIterator[str], mark: str, change: Callable[[JsonObject], object]
) -> AsyncIterator[str]:
    """Apply `change` to those chunks of a streamed chat completion whose text contains `mark`. Other events pass."""
    async for event in events:
        if mark not in event:
            yield event
            continue
        chunk = json.loads(event.removeprefix("data: "))
        change(chunk)
        yield f"data: {json.dumps(chunk, ensure_ascii=False, separators=(',', ':'))}\n\n"


def with_reasoning_content(events: AsyncIterator[str]) -> AsyncIterator[str]:
    """Add the reasoning of each delta also under its older name, in the events of a streamed chat completion."""

    def add(chunk: JsonObject) -> None:
        for choice in chunk.get("choices", ()):
            add_reasoning_content(choice.get("delta", {}))

    return rewrite_chunks(events, '"reasoning":', add)


def complete_text(reply: JsonObject) -> JsonObject:
    """Complete a text_completion."""
    _drop_nulls(reply, keep=())
    for choice in reply["choices"]:
        _drop_nulls(choice, keep=("logprobs", "finish_reason"))
    _complete_usage(reply)
    return reply


def complete_model(card: JsonObject) -> JsonObject:
    """Complete an entry of the list of models. Permissions do not exist here, and paths of the image are hidden."""
    root = card.get("root")
    if isinstance(root, str) and root.startswith("/"):
        card["root"] = None
    return {name: value for name, value in card.items() if value is not None and name != "permission"}


def _complete_usage(reply: JsonObject) -> None:
    usage = reply.get("usage")
    if usage:
        _drop_nulls(usage, keep=())
        for details in ("prompt_tokens_details", "completion_tokens_details"):
            if details in usage:
                _drop_nulls(usage[details], keep=())


def _drop_nulls(part: JsonObject, keep: tuple[str, ...]) -> None:
    for name in [name for name, value in part.items() if value is None and name not in keep]:
        del part[name]
