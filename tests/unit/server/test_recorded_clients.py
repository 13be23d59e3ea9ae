"""Recorded requests of Claude Code and Codex, adapted, have no field that vLLM 0.32 rejects.

vLLM is not here. Its types of the Responses API are those of openai-python, in the same version. The rest is what
its code says: anthropic/protocol.py and openai/responses/utils.py. tests/vllm sends the requests to vLLM itself.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.responses import ResponseInputItemParam
from openai.types.responses.tool import Tool
from pydantic import TypeAdapter

from forebay_server.api_compat.paths import MESSAGES, RESPONSES
from forebay_server.api_compat.request_fields import AdaptedBody, adapt_body
from tests.clients.recordings import Recording, read_recordings

RECORDINGS = {recording.name: recording for recording in read_recordings()}

BLOCKS = {"text", "image", "tool_use", "tool_result", "tool_reference", "thinking", "redacted_thinking"}
ITEMS = {"message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"}

OMITTED_TOOLS = {
    "claude_read_and_search_1": ("web_search",),
    "codex_after_openai": ("web_search",),
    "codex_command": ("web_search",),
    "codex_image": ("web_search",),
    "codex_patch": ("tool_search", "web_search"),
}
"""The tools that the server does without, of recordings that have such."""


def adapt(recording: Recording) -> tuple[dict[str, Any], AdaptedBody]:
    body = adapt_body(recording.path, json.dumps(recording.body).encode())
    return json.loads(body.content), body


def each_with(path: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", [name for name, each in RECORDINGS.items() if each.path.startswith(path)])


def blocks(content: Any) -> Iterator[dict[str, Any]]:
    for block in content if isinstance(content, list) else ():
        yield block
        yield from blocks(block.get("content"))


@each_with(MESSAGES)
def test_claude_codes_requests_contain_only_fields_of_vllm(name: str) -> None:
    fields, body = adapt(RECORDINGS[name])
    assert {block["type"] for message in fields["messages"] for block in blocks(message["content"])} <= BLOCKS
    assert {message["role"] for message in fields["messages"]} <= {"user", "assistant", "system"}
    assert all("input_schema" in tool for tool in fields.get("tools", ()))
    assert body.omitted == OMITTED_TOOLS.get(name, ())


@each_with(RESPONSES)
def test_codexs_requests_contain_only_fields_of_vllm(name: str) -> None:
    fields, body = adapt(RECORDINGS[name])
    assert {item["type"] for item in fields["input"]} <= ITEMS
    assert not [item for item in fields["input"] if item.get("encrypted_content")]
    TypeAdapter(list[ResponseInputItemParam]).validate_python(fields["input"])
    tools = TypeAdapter(list[Tool]).validate_python(fields["tools"])
    assert {tool.type for tool in tools} <= {"function", "custom", "namespace"}
    assert not [tool for tool in tools if tool.type == "custom" and tool.format]
    assert {each.type for tool in tools if tool.type == "namespace" for each in tool.tools} <= {"function"}
    assert body.omitted == OMITTED_TOOLS.get(name, ())


def test_each_kind_of_request_is_recorded() -> None:
    assert {recording.target for recording in RECORDINGS.values()} == {
        "/v1/messages?beta=true",
        "/v1/messages/count_tokens?beta=true",
        "/v1/responses",
    }
    clients = {recording.headers["user-agent"].partition("/")[0] for recording in RECORDINGS.values()}
    assert clients == {"claude-cli", "codex_exec"}
