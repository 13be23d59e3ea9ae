"""Conversations that Anthropic's or OpenAI's servers began: what only they write becomes what vLLM takes.

vLLM 0.32 refuses a request for one such block or item anywhere in its history. Pure.
"""

import json
from collections.abc import Mapping
from typing import Any

from forebay_server.compat.encoded_files import leave_out_files
from forebay_server.compat.incompatible import Incompatible
from forebay_server.compat.vendor_tools import TOOL_ITEMS, Fields, kind_of, list_of, merge_tools

SERVER_CALLS = ("server_tool_use", "mcp_tool_use")
"""Blocks of Anthropic's with a call of a tool that its servers ran."""

RESULT = "_tool_result"
"""How the types of Anthropic's blocks end that hold the result of such a call, as in web_search_tool_result."""

DOCUMENTS = ("document", "search_result", "container_upload", "compaction")
"""Further blocks of Anthropic's that vLLM does not know."""

ANSWERED_CALLS = {"local_shell_call": "local_shell", "shell_call": "shell", "apply_patch_call": "apply_patch"}
"""Items of the Responses API whose result is an item of its own, its type with _output -> the name of the tool."""

FINISHED_CALLS = ("code_interpreter_call", "file_search_call", "mcp_call")
"""Items of the Responses API that hold a call and its result."""

SPENT_ITEMS = (
    "configuration_update",
    "image_generation_call",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_list_tools",
    "tool_search_call",
    "web_search_call",
)
"""Items of the Responses API that say nothing which the messages around them do not say, or nothing in text."""

NOT_INCLUDABLE = ("web_search_call.action.sources", "web_search_call.results")
"""What vLLM refuses of OpenAI's values of `include` of the Responses API: nothing makes it here."""


def adapt_anthropic_history(fields: Fields) -> Fields:
    """The messages of the Messages API in blocks that vLLM knows.

    Raises:
        Incompatible: there is a document or a file that cannot be read here.
    """
    messages = fields.get("messages")
    if not isinstance(messages, list):
        return fields
    return {**fields, "messages": [_with_content(message, _adapt_blocks) for message in messages]}


def _with_content(holder: Any, adapt: Any) -> Any:
    """A message or a block, its list of blocks adapted."""
    if not isinstance(holder, dict) or not isinstance(holder.get("content"), list):
        return holder
    return {**holder, "content": adapt(holder["content"])}


def _adapt_blocks(blocks: list[Any]) -> list[Any]:
    return [made for block in blocks for made in _adapt_block(block)]


def _adapt_block(block: Any) -> list[Any]:
    """What stands for a block of a message."""
    kind = kind_of(block)
    if kind == "tool_result":
        return [_with_content(block, _adapt_parts)]
    if kind in SERVER_CALLS:
        return [_text(f"Called {_as_text(block.get('name'))} with {_as_text(block.get('input'))}")]
    if kind.endswith(RESULT):
        return [_text(f"Result of {kind.removesuffix(RESULT)}: {_as_text(block.get('content'))}")]
    return _adapt_parts([block])


def _adapt_parts(parts: list[Any]) -> list[Any]:
    """Text, images and documents, as a message and the result of a client's tool have them."""
    made = []
    for part in parts:
        kind = kind_of(part)
        _refuse_file(part)
        if kind == "document":
            made += _read_document(part)
        elif kind == "search_result":
            title = " ".join(_as_text(part[name]) for name in ("title", "source") if part.get(name))
            made.append(_text(f"{title}\n{_as_text(part.get('content'))}"))
        elif kind == "compaction":
            made.append(_text(part.get("content")))
        else:
            made.append(part)
    return made


def _refuse_file(part: Any) -> None:
    """Raises Incompatible for a part that names a file of Anthropic's."""
    kind = kind_of(part)
    source = part.get("source") if kind in ("document", "image") else None
    if kind == "container_upload" or kind_of(source) == "file":
        raise Incompatible("Anthropic's Files API is not available here. Send the content of the file.", "messages")


def _read_document(document: Mapping[str, Any]) -> list[Any]:
    """A document of text as blocks."""
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
    """The input of the Responses API in items that vLLM knows, with the tools that come within it among the others."""
    adapted = dict(fields)
    include = fields.get("include")
    if isinstance(include, list):
        adapted["include"] = [each for each in include if each not in NOT_INCLUDABLE]
    items = fields.get("input")
    if not isinstance(items, list):
        return adapted
    adapted["input"] = [made for item in items for made in _adapt_item(item)]
    brought = [tool for item in items if kind_of(item) in TOOL_ITEMS for tool in list_of(item, "tools")]
    tools = fields.get("tools") or []
    if brought and isinstance(tools, list):
        adapted["tools"] = merge_tools([*tools, *brought])
    return adapted


def _adapt_item(item: Any) -> list[Any]:
    """What stands for an item of the input."""
    kind = kind_of(item)
    if kind in SPENT_ITEMS or kind in TOOL_ITEMS:
        return []
    if kind == "reasoning":
        return _read_reasoning(item)
    if kind in ANSWERED_CALLS:
        return [_call(item, ANSWERED_CALLS[kind], item.get("action") or item.get("operation"))]
    if kind.removesuffix("_output") in ANSWERED_CALLS:
        return [_output(item, item.get("output") or item.get("status"))]
    if kind in FINISHED_CALLS:
        name = item.get("name") or kind.removesuffix("_call")
        asked = item.get("arguments") or item.get("code") or item.get("queries")
        given = item.get("output") or item.get("outputs") or item.get("results") or item.get("error")
        return [_call(item, _as_text(name), asked), _output(item, given)]
    return [item]


def _read_reasoning(item: Mapping[str, Any]) -> list[Any]:
    """Reasoning without what only its author can decipher; nothing where nothing else is in it."""
    rest = {name: value for name, value in item.items() if name != "encrypted_content"}
    hidden = item.get("encrypted_content") and not item.get("content") and not item.get("summary")
    return [] if hidden else [rest]


def _call(item: Mapping[str, Any], name: str, asked: Any) -> Fields:
    """A call as of a function. vLLM wants its arguments as the JSON of an object."""
    if isinstance(asked, str):
        try:
            asked = json.loads(asked)
        except (ValueError, RecursionError):
            asked = {"input": asked}
    arguments = _dump(leave_out_files(asked if isinstance(asked, dict) else {"input": asked}))
    return {"type": "function_call", "call_id": _call_id(item), "name": name, "arguments": arguments}


def _output(item: Mapping[str, Any], given: Any) -> Fields:
    return {"type": "function_call_output", "call_id": _call_id(item), "output": _as_text(given)}


def _call_id(item: Mapping[str, Any]) -> str:
    return _as_text(item.get("call_id") or item.get("id"))


def _text(content: Any) -> Fields:
    """A block of text. What is text already stays as it is."""
    return {"type": "text", "text": content if isinstance(content, str) else _as_text(content)}


def _as_text(content: Any) -> str:
    """Text, parts of text joined, anything else as JSON without what is encrypted; all without encoded files."""
    if content is None:
        return ""
    content = leave_out_files(content)
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(_is_text(part) for part in content):
        return "\n".join(part["text"] for part in content)
    return _dump(content)


def _is_text(part: Any) -> bool:
    return kind_of(part) == "text" and isinstance(part.get("text"), str)


def _dump(content: Any) -> str:
    """The JSON of a result, its parts without the fields that only their author can decipher."""
    parts = [_without_secrets(part) for part in content] if isinstance(content, list) else _without_secrets(content)
    try:
        return json.dumps(parts, ensure_ascii=False)
    except RecursionError:
        raise Incompatible("The request's body is nested too deeply.") from None


def _without_secrets(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    return {name: value for name, value in part.items() if not name.startswith("encrypted_")}
