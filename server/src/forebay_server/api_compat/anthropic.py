"""Replies of Anthropic's Messages API. Its specification requires fields without a value to be present, as null."""

from forebay_server.api_compat.openai import JsonObject

MESSAGE = ("stop_reason", "stop_sequence", "stop_details", "container")
USAGE = (
    "cache_creation",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "inference_geo",
    "output_tokens_details",
    "server_tool_use",
    "service_tier",
)


def complete_message(reply: JsonObject) -> JsonObject:
    """Complete a message, in place."""
    for name in MESSAGE:
        reply.setdefault(name, None)
    for name in USAGE:
        reply["usage"].setdefault(name, None)
    for block in reply["content"]:
        for name in [name for name, value in block.items() if value is None]:
            del block[name]
        if block["type"] == "text":
            block.setdefault("citations", None)
        if block["type"] == "tool_use":
            block.setdefault("caller", {"type": "direct"})
    return reply
