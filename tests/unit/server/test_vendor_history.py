"""A conversation from Anthropic's or OpenAI's servers continues here: its blocks are converted for vLLM."""

import json
from typing import Any

import pytest

from forebay_server.api_compat.incompatible import Incompatible
from forebay_server.api_compat.paths import MESSAGES, RESPONSES
from forebay_server.api_compat.request_fields import adapt_body

TEXT = {"type": "text", "text": "Hello"}
SEARCHED = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "dams"}}
FOUND = {"type": "web_search_result", "title": "Dams", "url": "https://example.com", "encrypted_content": "Zm9v"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "Zm9v"}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "Zm9v"}}
PNG = "data:image/png;base64,iVBORw0KGgo="
FUNCTION = {"type": "function", "name": "read", "parameters": {"type": "object"}}
QUESTION = {"role": "user", "content": "Hi"}


def text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def result(kind: str, content: Any) -> dict[str, Any]:
    return {"type": f"{kind}_tool_result", "tool_use_id": "srvtoolu_1", "content": content}


def document(**source: Any) -> dict[str, Any]:
    return {"type": "document", "title": "Dams", "source": source, "citations": {"enabled": True}}


@pytest.mark.parametrize("path", [MESSAGES, f"{MESSAGES}/count_tokens"])
@pytest.mark.parametrize(
    ("block", "converted"),
    [
        (SEARCHED, [text('Called web_search with {"query": "dams"}')]),
        (
            result("web_search", [FOUND]),
            [
                text(
                    'Result of web_search: [{"type": "web_search_result", "title": "Dams", "url": "https://example.com"}]'
                )
            ],
        ),
        (
            result("web_fetch", {"type": "web_fetch_tool_result_error", "error_code": "max_uses_exceeded"}),
            [text('Result of web_fetch: {"type": "web_fetch_tool_result_error", "error_code": "max_uses_exceeded"}')],
        ),
        (
            result("bash_code_execution", {"stdout": "4", "encrypted_stdout": "Zm9v"}),
            [text('Result of bash_code_execution: {"stdout": "4"}')],
        ),
        (
            result("web_fetch", {"type": "web_fetch_result", "url": "https://example.com", "content": PDF}),
            [
                text(
                    'Result of web_fetch: {"type": "web_fetch_result", "url": "https://example.com", "content": '
                    '{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", '
                    '"data": "(PDF omitted)"}}}'
                )
            ],
        ),
        (result("mcp", [text("one"), text(f"a {PNG} b")]), [text("Result of mcp: one\na (PNG omitted) b")]),
        (document(type="text", data=f"<img src={PNG}>"), [text("Dams"), text(f"<img src={PNG}>")]),
        ({**SEARCHED, "type": "mcp_tool_use", "server_name": "x"}, [text('Called web_search with {"query": "dams"}')]),
        (result("mcp", [text("one"), text("two")]), [text("Result of mcp: one\ntwo")]),
        (document(type="text", media_type="text/plain", data="Water."), [text("Dams"), text("Water.")]),
        (document(type="content", content=[TEXT, IMAGE]), [text("Dams"), TEXT, IMAGE]),
        (document(type="content", content="Water."), [text("Dams"), text("Water.")]),
        (
            {"type": "search_result", "source": "https://example.com", "title": "Dams", "content": [text("Water.")]},
            [text("Dams https://example.com\nWater.")],
        ),
        ({"type": "compaction", "content": "They spoke of dams."}, [text("They spoke of dams.")]),
        ({"type": "redacted_thinking", "data": "Zm9v"}, [{"type": "redacted_thinking", "data": "Zm9v"}]),
        ({"type": "of-next-year"}, [{"type": "of-next-year"}]),
    ],
)
def test_blocks_of_anthropics_servers_become_text(
    path: str, block: dict[str, Any], converted: list[dict[str, Any]]
) -> None:
    messages = [QUESTION, {"role": "assistant", "content": [TEXT, block]}, QUESTION]
    content = json.loads(adapt_body(path, json.dumps({"messages": messages}).encode()).content)
    assert content["messages"] == [QUESTION, {"role": "assistant", "content": [TEXT, *converted]}, QUESTION]


def test_the_result_of_a_client_tool_keeps_its_documents() -> None:
    tool_result = {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": [document(type="text", data="Water."), IMAGE],
    }
    messages = [{"role": "user", "content": [tool_result]}]
    content = json.loads(adapt_body(MESSAGES, json.dumps({"messages": messages}).encode()).content)
    assert content["messages"][0]["content"] == [{**tool_result, "content": [text("Dams"), text("Water."), IMAGE]}]


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (PDF, "only if its source is text"),
        ({"type": "tool_result", "tool_use_id": "toolu_1", "content": [PDF]}, "only if its source is text"),
        (document(type="url", url="https://example.com/dams.pdf"), "only if its source is text"),
        ({"type": "document"}, "only if its source is text"),
        (document(type="file", file_id="file_1"), "Files API is not available"),
        ({"type": "image", "source": {"type": "file", "file_id": "file_1"}}, "Files API is not available"),
        ({"type": "container_upload", "file_id": "file_1"}, "Files API is not available"),
        (
            document(type="content", content=[{"type": "image", "source": {"type": "file"}}]),
            "Files API is not available",
        ),
    ],
)
def test_unreadable_history_is_rejected_with_one_message(block: dict[str, Any], says: str) -> None:
    with pytest.raises(Incompatible, match=says) as refused:
        adapt_body(MESSAGES, json.dumps({"messages": [{"role": "user", "content": [block]}]}).encode())
    assert refused.value.error.param == "messages"


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": "call_1", "name": name, "arguments": json.dumps(arguments)}


def output(text: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": "call_1", "output": text}


THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "I think."}]}
PATCH = {"type": "update_file", "path": "a", "diff": "@@"}
EXEC = {"type": "exec", "command": ["ls"], "env": {}}


@pytest.mark.parametrize(
    ("item", "converted"),
    [
        ({**THOUGHT, "encrypted_content": "Zm9v"}, [THOUGHT]),
        ({**THOUGHT, "summary": [], "encrypted_content": "Zm9v"}, []),
        ({**THOUGHT, "encrypted_content": None}, [THOUGHT]),
        ({"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}, []),
        ({"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "Zm9v"}, []),
        ({"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "x", "tools": []}, []),
        (
            {"type": "local_shell_call", "id": "x", "call_id": "call_1", "action": EXEC},
            [call("local_shell", **EXEC)],
        ),
        ({"type": "local_shell_call_output", "id": "call_1", "output": "a"}, [output("a")]),
        ({"type": "shell_call", "call_id": "call_1", "action": {"commands": ["ls"]}}, [call("shell", commands=["ls"])]),
        (
            {"type": "shell_call_output", "call_id": "call_1", "output": [{"stdout": "a", "stderr": ""}]},
            [output('[{"stdout": "a", "stderr": ""}]')],
        ),
        ({"type": "apply_patch_call", "call_id": "call_1", "operation": PATCH}, [call("apply_patch", **PATCH)]),
        ({"type": "apply_patch_call_output", "call_id": "call_1", "status": "completed"}, [output("completed")]),
        (
            {
                "type": "code_interpreter_call",
                "id": "call_1",
                "code": "1+1",
                "outputs": [{"logs": "2"}],
            },
            [call("code_interpreter", input="1+1"), output('[{"logs": "2"}]')],
        ),
        (
            {"type": "code_interpreter_call", "id": "call_1", "code": "", "outputs": [{"type": "image", "url": PNG}]},
            [call("code_interpreter", input=None), output('[{"type": "image", "url": "(PNG omitted)"}]')],
        ),
        (
            {"type": "mcp_call", "id": "call_1", "name": "x", "output": PNG},
            [call("x", input=None), output("(PNG omitted)")],
        ),
        (
            {"type": "mcp_call", "id": "call_1", "name": "roll", "arguments": '{"dice": 2}', "output": "7"},
            [call("roll", dice=2), output("7")],
        ),
        (
            {"type": "file_search_call", "id": "call_1", "queries": ["dams"], "results": [{"text": "Water."}]},
            [call("file_search", input=["dams"]), output('[{"text": "Water."}]')],
        ),
        ({"type": "item_reference", "id": "msg_1"}, [{"type": "item_reference", "id": "msg_1"}]),
    ],
)
def test_items_of_openais_servers_become_calls_or_are_dropped(
    item: dict[str, Any], converted: list[dict[str, Any]]
) -> None:
    fields = {"input": [QUESTION, item, QUESTION], "tools": [FUNCTION]}
    content = json.loads(adapt_body(RESPONSES, json.dumps(fields).encode()).content)
    assert content == {**fields, "input": [QUESTION, *converted, QUESTION]}


@pytest.mark.parametrize("kind", ["additional_tools", "tool_search_output"])
def test_tools_within_the_input_join_the_other_tools(kind: str) -> None:
    item = {"type": kind, "role": "developer", "tools": [{**FUNCTION, "name": "write"}, {"type": "web_search"}]}
    body = adapt_body(RESPONSES, json.dumps({"input": [item, QUESTION], "tools": [FUNCTION]}).encode())
    content = json.loads(body.content)
    assert content["input"] == [QUESTION]
    assert [tool["name"] for tool in content["tools"]] == ["read", "write"]
    assert body.omitted == ("web_search",)
    alone = json.loads(adapt_body(RESPONSES, json.dumps({"input": [item, QUESTION]}).encode()).content)
    assert [tool["name"] for tool in alone["tools"]] == ["write"]


def test_the_last_of_several_tools_with_one_name_is_used() -> None:
    newer = {**FUNCTION, "description": "Newer."}
    other = {"type": "custom", "name": "read"}
    servers = [{"type": "mcp", "server_label": label} for label in "ab"]
    item = {"type": "tool_search_output", "tools": [newer, other, *servers]}
    converted = json.loads(
        adapt_body(RESPONSES, json.dumps({"input": [item, item], "tools": [FUNCTION]}).encode()).content
    )
    assert converted["tools"] == [newer, other, *servers]


def test_searches_in_one_namespace_add_to_it() -> None:
    def namespace_of(*names: str) -> dict[str, Any]:
        tools = [{**FUNCTION, "name": name} for name in names]
        return {"type": "namespace", "name": "mail", "tools": tools}

    items = [{"type": "tool_search_output", "tools": [namespace_of(*names)]} for names in (("read",), ("send", "read"))]
    converted = json.loads(adapt_body(RESPONSES, json.dumps({"input": items, "tools": [FUNCTION, 7]}).encode()).content)
    assert converted["tools"] == [FUNCTION, 7, namespace_of("read", "send")]


def test_many_tools_within_the_input_are_processed_in_linear_time() -> None:
    namespace = {"type": "namespace", "name": "mail", "tools": [FUNCTION]}
    item = {"type": "additional_tools", "tools": [namespace] * 100_000}
    converted = json.loads(adapt_body(RESPONSES, json.dumps({"input": [item]}).encode()).content)
    assert converted["tools"] == [namespace]


def test_included_fields_that_no_tool_can_produce_are_dropped() -> None:
    include = ["reasoning.encrypted_content", "web_search_call.action.sources", "web_search_call.results"]
    content = json.loads(adapt_body(RESPONSES, json.dumps({"input": "Hi", "include": include}).encode()).content)
    assert content["include"] == ["reasoning.encrypted_content"]


def test_unknown_included_fields_pass_to_vllm() -> None:
    include = ["web_search_call.results", "web_search_call.result", {}]
    content = json.loads(adapt_body(RESPONSES, json.dumps({"input": "Hi", "include": include}).encode()).content)
    assert content["include"] == ["web_search_call.result", {}]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (MESSAGES, {"messages": "server_tool_use"}),
        (
            MESSAGES,
            {"messages": ["server_tool_use", {"role": "user", "content": ["document", {"type": ["document"]}]}]},
        ),
        (RESPONSES, {"input": "web_search_call"}),
        (
            RESPONSES,
            {"input": ["web_search_call", {"type": []}], "include": "web_search_call.results"},
        ),
        (RESPONSES, {"input": [{"type": "message", "role": "user", "content": "additional_tools"}], "tools": {}}),
    ],
)
def test_other_invalid_history_passes_to_vllm(path: str, fields: dict[str, Any]) -> None:
    assert json.loads(adapt_body(path, json.dumps(fields).encode()).content) == fields


@pytest.mark.parametrize("depth", range(900, 1000, 7))
@pytest.mark.parametrize(
    ("path", "around"),
    [
        (MESSAGES, b'{"messages": [{"role": "user", "content": [{"type": "server_tool_use", "name": %s}]}]}'),
        (MESSAGES, b'{"messages": [{"role": "user", "content": [{"type": "x_tool_result", "content": {"a": %s}}]}]}'),
        (MESSAGES, b'{"messages": [{"role": "user", "content": [{"type": "compaction", "content": [%s]}]}]}'),
        (RESPONSES, b'{"input": [{"type": "shell_call", "call_id": "x", "action": {"commands": %s}}]}'),
    ],
)
def test_nesting_that_is_too_deep_to_serialize_is_rejected(path: str, around: bytes, depth: int) -> None:
    try:
        adapt_body(path, around % (b"[" * depth + b"]" * depth))
    except Incompatible as refused:
        assert "nested too deeply" in str(refused)  # noqa: PT017
