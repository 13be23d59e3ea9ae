"""Converts the blocks and items that only Anthropic's or OpenAI's servers write into a conversation. Pure.

vLLM 0.32 rejects a request with one such block or item anywhere in its history.
"""

import json
from collections.abc import Mapping
from typing import Any

from forebay_server.api_compat.encoded_files import omit_files
from forebay_server.api_compat.incompatible import Incompatible
from forebay_server.api_compat.vendor_tools import TOOL_ITEMS, Fields, kind_of, list_of, merge_tools

SERVER_CALLS = ("server_tool_use", "mcp_tool_use")
"""Anthropic's blocks with a call of a tool that its servers ran."""

RESULT = "_tool_result"
"""Suffix of the types of Anthropic's blocks with the result of such a call, as in web_search_tool_result."""

DOCUMENTS = ("document", "search_result", "container_upload", "compaction")
"""Further blocks of Anthropic's API that vLLM does not know."""

ANSWERED_CALLS = {"local_shell_call": "local_shell", "shell_call": "shell", "apply_patch_call": "apply_patch"}
"""Items of the Responses API whose result is an item of its own (suffix _output) -> the name of the tool."""

FINISHED_CALLS = ("code_interpreter_call", "file_search_call", "mcp_call")
"""Items of the Responses API with both a call and its result."""

REMOVED_ITEMS = (
    "configuration_update",
    "image_generation_call",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_list_tools",
    "tool_search_call",
    "web_search_call",
)
"""Items of the Responses API that add no text to the messages around them. They are removed."""

NOT_INCLUDABLE = ("web_search_call.action.sources", "web_search_call.results")
"""OpenAI's values of `include` that vLLM rejects. This server never has such data."""


def adapt_anthropic_history(fields: Fields) -> Fields:
    """Convert the messages of the Messages API to blocks that vLLM knows.

    Raises:
        Incompatible: the messages have a document or a file that cannot be read here.
    """
    messages = fields.get("messages")
    if not isinstance(messages, list):
        return fields
    return {**fields, "messages": [_with_content(message, _adapt_blocks) for message in messages]}


def _with_content(holder: Any, adapt: Any) -> Any:
    """Apply `adapt` to the list of blocks in a message or in another block."""
    if not isinstance(holder, dict) or not isinstance(holder.get("content"), list):
        return holder
    return {**holder, "content": adapt(holder["content"])}


def _adapt_blocks(blocks: list[Any]) -> list[Any]:
    return [converted for block in blocks for converted in _adapt_block(block)]


def _adapt_block(block: Any) -> list[Any]:
    """The blocks that replace a block of a message."""
    kind = kind_of(block)
    if kind == "tool_result":
        return [_with_content(block, _adapt_parts)]
    if kind in SERVER_CALLS:
        return [_text(f"Called {_as_text(block.get('name'))} with {_as_text(block.get('input'))}")]
    if kind.endswith(RESULT):
        return [_text(f"Result of {kind.removesuffix(RESULT)}: {_as_text(block.get('content'))}")]
    return _adapt_parts([block])


def _adapt_parts(parts: list[Any]) -> list[Any]:
    """Convert the text, images and documents of a message or of the result of a client's tool."""
    converted = []
    for part in parts:
        kind = kind_of(part)
        _refuse_file(part)
        if kind == "document":
            converted += _read_document(part)
        elif kind == "search_result":
            title = " ".join(_as_text(part[name]) for name in ("title", "source") if part.get(name))
            converted.append(_text(f"{title}\n{_as_text(part.get('content'))}"))
        elif kind == "compaction":
            converted.append(_text(part.get("content")))
        else:
            converted.append(part)
    return converted


def _refuse_file(part: Any) -> None:
    """Raise Incompatible for a part that refers to a file of Anthropic's Files API."""
    kind = kind_of(part)
    source = part.get("source") if kind in ("document", "image") else None
    if kind == "container_upload" or kind_of(source) == "file":
        raise Incompatible("Anthropic's Files API is not available here. Send the content of the file.", "messages")


def _read_document(document: Mapping[str, Any]) -> list[Any]:
    """The blocks of a text document."""
    source = document.get("source")
    kind = source.get("type") if isinstance(source, dict) else None
    head = [_text(document[name]) for name in ("title", "context") if document.get(name)]
    if kind == "text":
        return [*head, _text(document["source"].get("data"))]
    if kind == "content":
        content = document["source"].get("content")
        for part in list_of(document["source"], "content"):
            _refuse_file(part)
        return [*head, *(content if isinstance(content, list) else [_text(content)])]
    raise Incompatible(
        "A document can be read only if its source is text. Send the text, or send the pages as images to a model "
        "that sees.",
        "messages",
    )


def adapt_openai_history(fields: Fields) -> Fields:
    """Convert the input of the Responses API to items that vLLM knows. Add the tools in the input to the request's
    tools."""
    adapted = dict(fields)
    include = fields.get("include")
    if isinstance(include, list):
        adapted["include"] = [value for value in include if value not in NOT_INCLUDABLE]
    items = fields.get("input")
    if not isinstance(items, list):
        return adapted
    adapted["input"] = [converted for item in items for converted in _adapt_item(item)]
    added = [tool for item in items if kind_of(item) in TOOL_ITEMS for tool in list_of(item, "tools")]
    tools = fields.get("tools") or []
    if added and isinstance(tools, list):
        adapted["tools"] = merge_tools([*tools, *added])
    return adapted


def _adapt_item(item: Any) -> list[Any]:
    """The items that replace an item of the input."""
    kind = kind_of(item)
    if kind in REMOVED_ITEMS or kind in TOOL_ITEMS:
        return []
    if kind == "reasoning":
        return _read_reasoning(item)
    if kind in ANSWERED_CALLS:
        return [_call(item, ANSWERED_CALLS[kind], item.get("action") or item.get("operation"))]
    if kind.removesuffix("_output") in ANSWERED_CALLS:
        return [_output(item, item.get("output") or item.get("status"))]
    if kind in FINISHED_CALLS:
        name = item.get("name") or kind.removesuffix("_call")
        call_input = item.get("arguments") or item.get("code") or item.get("queries")
        result = item.get("output") or item.get("outputs") or item.get("results") or item.get("error")
        return [_call(item, _as_text(name), call_input), _output(item, result)]
    return [item]


def _read_reasoning(item: Mapping[str, Any]) -> list[Any]:
    """Remove the encrypted part of reasoning, or the item if it has no other part."""
    rest = {name: value for name, value in item.items() if name != "encrypted_content"}
    hidden = item.get("encrypted_content") and not item.get("content") and not item.get("summary")
    return [] if hidden else [rest]


def _call(item: Mapping[str, Any], name: str, call_input: Any) -> Fields:
    """Convert a call to the call of a function. vLLM requires its arguments to be the JSON of an object."""
    if isinstance(call_input, str):
        try:
            call_input = json.loads(call_input)
        except (ValueError, RecursionError):
            call_input = {"input": call_input}
    arguments = _dump(omit_files(call_input if isinstance(call_input, dict) else {"input": call_input}))
    return {"type": "function_call", "call_id": _call_id(item), "name": name, "arguments": arguments}


def _output(item: Mapping[str, Any], result: Any) -> Fields:
    return {"type": "function_call_output", "call_id": _call_id(item), "output": _as_text(result)}


def _call_id(item: Mapping[str, Any]) -> str:
    return _as_text(item.get("call_id") or item.get("id"))


def _text(content: Any) -> Fields:
    """A block of text. A string stays as it is."""
    return {"type": "text", "text": content if isinstance(content, str) else _as_text(content)}


def _as_text(content: Any) -> str:
    """Convert content to text without encoded files: join parts of text, and write anything else as JSON."""
    if content is None:
        return ""
    content = omit_files(content)
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(_is_text(part) for part in content):
        return "\n".join(part["text"] for part in content)
    return _dump(content)


def _is_text(part: Any) -> bool:
    return kind_of(part) == "text" and isinstance(part.get("text"), str)


def _dump(content: Any) -> str:
    """Write content as JSON, its parts without the fields that only their author can decipher."""
    parts = [_without_secrets(part) for part in content] if isinstance(content, list) else _without_secrets(content)
    return json.dumps(parts, ensure_ascii=False)


def _without_secrets(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    return {name: value for name, value in part.items() if not name.startswith("encrypted_")}
