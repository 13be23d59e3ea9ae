"""Chat completions and completions as OpenAI's specification has them.

vLLM sends every optional field it has nothing for as null; there a field that has no value is left out, and a few are
always present. Pure functions that change the reply as it was dumped, in place.
"""

from typing import Any

JsonObject = dict[str, Any]


def complete_chat(reply: JsonObject) -> JsonObject:
    """A chat.completion. Fields of vLLM's own stay where they hold something."""
    _drop_nulls(reply, keep=())
    reply.setdefault("service_tier", "default")
    for choice in reply["choices"]:
        _drop_nulls(choice, keep=("logprobs", "finish_reason"))
        message = choice["message"]
        _drop_nulls(message, keep=("content", "refusal"))
        message.setdefault("refusal", None)
        message.setdefault("annotations", [])
    _complete_usage(reply)
    return reply


def complete_text(reply: JsonObject) -> JsonObject:
    """A text_completion."""
    _drop_nulls(reply, keep=())
    for choice in reply["choices"]:
        _drop_nulls(choice, keep=("logprobs", "finish_reason"))
    _complete_usage(reply)
    return reply


def complete_model(card: JsonObject) -> JsonObject:
    """One entry of the list of models, without permissions, which nobody has here, and without a path of the image."""
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
