"""Fields by older and other names become vLLM's, or are refused by name."""

import json
from typing import Any

import pytest

from forebay_server.api_compat.incompatible import Incompatible
from forebay_server.api_compat.paths import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from forebay_server.api_compat.request_fields import adapt_body

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
OWN = {"name": "read", "input_schema": {"type": "object"}}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}

FUNCTION = {"type": "function", "name": "read", "parameters": {"type": "object"}}
WEB = {"type": "web_search"}
PREVIEW = {"type": "web_search_preview_2025_03_11"}
ONLY_WEB = {"type": "allowed_tools", "mode": "required", "tools": [WEB]}


def adapted(path: str, **fields: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(adapt_body(path, json.dumps({"model": "m", **fields}).encode()).content)
    assert content.pop("model") == "m"
    return content


@pytest.mark.parametrize("path", [CHAT, f"{CHAT}/batch", f"{CHAT}/render", COMPLETIONS, RESPONSES])
@pytest.mark.parametrize(
    ("given", "structured"),
    [
        ({"guided_json": SCHEMA}, {"json": SCHEMA}),
        ({"guided_json": json.dumps(SCHEMA)}, {"json": json.dumps(SCHEMA)}),
        ({"guided_choice": ["red", "green"]}, {"choice": ["red", "green"]}),
        ({"guided_regex": "[0-9]{4}"}, {"regex": "[0-9]{4}"}),
        ({"guided_grammar": 'root ::= "a"'}, {"grammar": 'root ::= "a"'}),
        ({"guided_json_object": True}, {"json_object": True}),
        ({"guided_json": SCHEMA, "guided_whitespace_pattern": " "}, {"json": SCHEMA, "whitespace_pattern": " "}),
        ({"guided_json": SCHEMA, "guided_regex": None}, {"json": SCHEMA}),
        ({"guided_json": SCHEMA, "guided_decoding_backend": "auto"}, {"json": SCHEMA}),
    ],
)
def test_guided_fields_become_structured_outputs(path: str, given: dict[str, Any], structured: dict[str, Any]) -> None:
    assert adapted(path, **given, seed=1) == {"structured_outputs": structured, "seed": 1}


def json_format(**more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, **more}}


@pytest.mark.parametrize("path", [CHAT, f"{CHAT}/batch", COMPLETIONS])
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"type": "json_object", "schema": SCHEMA}, json_format()),
        ({"type": "json_schema", "schema": SCHEMA}, json_format()),
        ({"type": "json_schema", "name": "n", "strict": True, "schema": SCHEMA}, json_format(name="n", strict=True)),
        ({"type": "json_schema", "schema": {}, "json_schema": {"name": "n"}}, None),
        ({"type": "json_object", "schema": "x"}, None),
        ({"type": "json_object"}, None),
        ({"type": "structural_tag", "schema": SCHEMA}, None),
        ("json", None),
    ],
)
def test_a_schema_beside_the_type_of_a_format_is_used(path: str, given: Any, wanted: dict[str, Any] | None) -> None:
    assert adapted(path, response_format=given) == {"response_format": wanted or given}


def test_a_text_format_can_be_combined_with_a_constraint() -> None:
    given = {"response_format": {"type": "text"}, "guided_regex": "a"}
    assert adapted(CHAT, **given)["structured_outputs"] == {"regex": "a"}


@pytest.mark.parametrize("constraint", [{"guided_regex": "a"}, {"structured_outputs": {"regex": "a"}}])
def test_the_text_field_of_a_response_can_be_combined_with_a_constraint(constraint: dict[str, Any]) -> None:
    result = adapted(RESPONSES, **constraint, text={"format": {"type": "text"}, "verbosity": "low"})
    assert result == {"text": {"verbosity": "low"}, "structured_outputs": {"regex": "a"}}


def test_output_format_becomes_the_output_format_of_the_messages_api() -> None:
    layout = {"type": "json_schema", "schema": SCHEMA}
    assert adapted(MESSAGES, output_format=layout) == {"output_config": {"format": layout}}
    assert adapted(MESSAGES, output_format=layout, output_config={"effort": "low"})["output_config"] == {
        "effort": "low",
        "format": layout,
    }


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"n": 2, "temperature": 0}, {"n": 2, "temperature": 1, "top_k": 1}),
        ({"n": 12, "temperature": 0.0, "top_k": 9}, {"n": 12, "temperature": 1, "top_k": 1}),
        ({"n": 2, "temperature": 0.5}, {"n": 2, "temperature": 0.5}),
        ({"n": 2}, {"n": 2}),
        ({"n": 1, "temperature": 0}, {"n": 1, "temperature": 0}),
        ({"top_p": 0}, {"top_k": 1}),
        ({"top_p": 0.0, "seed": 1}, {"top_k": 1, "seed": 1}),
        ({"top_p": 0.01}, {"top_p": 0.01}),
        ({"n": True, "temperature": 0, "top_p": False}, {"n": True, "temperature": 0, "top_p": False}),
    ],
)
def test_greedy_sampling_is_requested_as_vllm_expects(path: str, given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert adapted(path, **given) == wanted


@pytest.mark.parametrize("path", [RESPONSES, MESSAGES])
def test_every_api_accepts_a_top_p_of_0(path: str) -> None:
    assert adapted(path, top_p=0.0, temperature=1) == {"temperature": 1, "top_k": 1}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"guided_regex": "a", "guided_json_object": False}, {"structured_outputs": {"regex": "a"}}),
        ({"guided_json_object": False, "guided_grammar": ""}, {}),
        ({"guided_json_object": True}, {"structured_outputs": {"json_object": True}}),
    ],
)
def test_an_empty_constraint_is_ignored(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert adapted(CHAT, **given) == wanted


def test_the_beam_width_is_not_changed() -> None:
    given = {"use_beam_search": True, "n": 4, "temperature": 0}
    assert adapted(COMPLETIONS, **given) == given


def test_many_tools_are_processed_in_linear_time() -> None:
    tools = [{"name": f"own{number}", "input_schema": {}} for number in range(100_000)]
    tools += [{"type": "web_search_20250305", "name": f"search{number}"} for number in range(100_000)]
    assert len(adapt_body(MESSAGES, json.dumps({"tools": tools}).encode()).omitted) == 100_000


def test_nesting_that_is_too_deep_to_serialize_is_rejected() -> None:
    for depth in range(900, 1000):
        body = b'{"guided_json": %s}' % (b"[" * depth + b"]" * depth)
        try:
            adapt_body(CHAT, body)
        except Incompatible as refused:
            assert "nested too deeply" in str(refused)  # noqa: PT017
    with pytest.raises(Incompatible, match="not JSON"):
        adapt_body(MESSAGES, json.dumps({"guided_json": "[" * 100_000}).encode())


@pytest.mark.parametrize("path", [MESSAGES, f"{MESSAGES}/count_tokens"])
@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"tools": []}, {}),
        ({"tools": [], "tool_choice": {"type": "auto"}}, {}),
        ({"tools": [], "tool_choice": {"type": "any"}}, {"tools": [], "tool_choice": {"type": "any"}}),
    ],
)
def test_an_empty_list_of_tools_means_no_tools(path: str, given: dict[str, Any], left: dict[str, Any]) -> None:
    """Claude Code counts tokens so, whatever the model can do."""
    assert adapted(path, **given) == left
    assert adapt_body(path, json.dumps(given, separators=(",", ":")).encode()).omitted == ()


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_suffix_is_omitted(nothing: str | None) -> None:
    assert adapted(COMPLETIONS, prompt="x", suffix=nothing) == {"prompt": "x"}


@pytest.mark.parametrize(
    ("tools", "kept", "omitted"),
    [
        ([FUNCTION, WEB], [FUNCTION], ("web_search",)),
        ([{"type": "web_search_2025_08_26"}], None, ("web_search_2025_08_26",)),
        ([{"type": "local_shell"}, {"type": "apply_patch"}, FUNCTION], [FUNCTION], ("local_shell", "apply_patch")),
        ([{"type": "file_search", "vector_store_ids": ["x"]}, FUNCTION], [FUNCTION], ("file_search",)),
        ([FUNCTION, {"type": "web_search_preview"}], [FUNCTION, {"type": "web_search_preview"}], ()),
        ([{"type": "mcp", "server_label": "x"}], [{"type": "mcp", "server_label": "x"}], ()),
        ([{"type": "custom", "name": "note"}], [{"type": "custom", "name": "note"}], ()),
        ([{**FUNCTION, "name": "shell"}], [{**FUNCTION, "name": "shell"}], ()),
    ],
)
def test_tools_of_openais_servers_are_omitted_and_named(
    tools: list[dict[str, Any]], kept: list[dict[str, Any]] | None, omitted: tuple[str, ...]
) -> None:
    body = adapt_body(RESPONSES, json.dumps({"input": "x", "tools": tools, "tool_choice": "auto"}).encode())
    content = json.loads(body.content)
    assert content.get("tools") == kept
    assert ("tool_choice" in content) is (kept is not None)
    assert body.omitted == omitted


def test_a_choice_among_tools_keeps_the_remaining_tools() -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "read"}, WEB]}
    result = adapted(RESPONSES, tools=[FUNCTION, WEB], tool_choice=choice)
    assert result["tool_choice"]["tools"] == [{"type": "function", "name": "read"}]
    free = {**choice, "mode": "auto"}
    assert adapted(RESPONSES, tools=[FUNCTION, WEB], tool_choice={**free, "tools": [WEB]})["tool_choice"] == "none"
    assert adapted(RESPONSES, tools=[WEB], tool_choice=free) == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "read"}, "x": "web_search"},
        {"tools": [{"type": "web_search_preview"}], "tool_choice": {"type": "web_search_preview"}},
        {"tools": [{"type": "mcp", "server_label": "x"}], "tool_choice": {"type": "mcp", "server_label": "x"}},
        {"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", "mode": "auto"}, "x": "web_search"},
        {"tools": [FUNCTION], "tool_choice": ["web_search"]},
    ],
)
def test_a_tool_choice_that_is_possible_or_invalid_passes_to_vllm(fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    assert adapt_body(RESPONSES, body).content is body


def test_an_invalid_tool_choice_is_not_dropped_with_the_tools() -> None:
    assert adapted(RESPONSES, tools=[WEB], tool_choice="sometimes") == {"tool_choice": "sometimes"}
    assert adapted(MESSAGES, tools=[SEARCH], tool_choice={"type": "x"}) == {"tool_choice": {"type": "x"}}


def test_an_omitted_tool_is_named_even_if_another_has_its_name() -> None:
    tools = [WEB, WEB, {**FUNCTION, "name": "web_search"}]
    assert adapt_body(RESPONSES, json.dumps({"tools": tools}).encode()).omitted == ("web_search",)


def test_the_grammar_of_a_custom_tool_is_in_its_description() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin Patch"'}
    tool = {"type": "custom", "name": "apply_patch", "description": "Edit files.", "format": grammar}
    (result,) = adapted(RESPONSES, tools=[tool])["tools"]
    assert result == {
        "type": "custom",
        "name": "apply_patch",
        "description": 'Edit files.\nThe input follows this grammar (lark):\nstart: "*** Begin Patch"',
    }


def test_custom_tools_of_a_namespace_become_separate_tools() -> None:
    note = {"type": "custom", "name": "note"}
    for within, kept in ([FUNCTION, note], [{"type": "namespace", "name": "files", "tools": [FUNCTION]}]), ([note], []):
        given = {"input": "Hi", "tools": [{"type": "namespace", "name": "files", "tools": within}]}
        body = adapt_body(RESPONSES, json.dumps(given).encode())
        assert json.loads(body.content)["tools"] == [*kept, note]
        assert body.omitted == ()


def test_guided_json_becomes_the_output_format_of_the_messages_api() -> None:
    wanted = {"format": {"type": "json_schema", "schema": SCHEMA}}
    for given in (SCHEMA, json.dumps(SCHEMA)):
        assert adapted(MESSAGES, guided_json=given) == {"output_config": wanted}
    assert adapted(MESSAGES, guided_json=SCHEMA, output_config={"effort": "low"})["output_config"]["effort"] == "low"


@pytest.mark.parametrize(
    ("path", "fields", "says", "param"),
    [
        (CHAT, {"guided_json": SCHEMA, "guided_regex": "a"}, "one of guided_json and guided_regex", "guided_regex"),
        (CHAT, {"guided_regex": "a", "structured_outputs": {"regex": "b"}}, "not both", "structured_outputs"),
        (CHAT, {"guided_decoding_backend": "outlines"}, "STRUCTURED_OUTPUTS_CONFIG", "guided_decoding_backend"),
        (CHAT, {"guided_json": SCHEMA, "response_format": json_format()}, "Send guided_json or", "response_format"),
        (CHAT, {"guided_regex": "a", "response_format": {"type": "json_object"}}, "guided_regex or", "response_format"),
        (
            COMPLETIONS,
            {"structured_outputs": {"json": SCHEMA}, "response_format": json_format()},
            "Send structured_outputs or",
            "response_format",
        ),
        (RESPONSES, {"guided_json": SCHEMA, "text": {"format": {"type": "json_object"}}}, "not both", "text.format"),
        (CHAT, {"guided_whitespace_pattern": " "}, "only with guided_json", "guided_whitespace_pattern"),
        (MESSAGES, {"output_format": {}, "output_config": {"format": {}}}, "not both", "output_format"),
        (
            RESPONSES,
            {"tools": [WEB], "tool_choice": "required"},
            "tool type web_search is not supported here",
            "tool_choice",
        ),
        (
            RESPONSES,
            {"tools": [FUNCTION, WEB], "tool_choice": WEB},
            "tool type web_search is not supported here",
            "tool_choice",
        ),
        (
            RESPONSES,
            {"tools": [{"type": "computer_use_preview"}], "tool_choice": {"type": "computer"}},
            "tool type computer is not supported here",
            "tool_choice",
        ),
        (
            RESPONSES,
            {"tools": [FUNCTION, PREVIEW], "tool_choice": {"type": "web_search_preview"}},
            "tool type web_search_preview is not supported here",
            "tool_choice",
        ),
        (RESPONSES, {"tool_choice": WEB}, "tool type web_search is not supported here", "tool_choice"),
        (
            RESPONSES,
            {"tools": [FUNCTION], "tool_choice": {"type": "code_interpreter"}},
            "tool type code_interpreter is not supported here",
            "tool_choice",
        ),
        (
            RESPONSES,
            {"tools": [WEB], "tool_choice": {"type": "function", "name": "f"}},
            "tool type function is not supported here",
            "tool_choice",
        ),
        (
            RESPONSES,
            {"tools": [WEB], "tool_choice": ONLY_WEB},
            "tool type web_search is not supported here",
            "tool_choice",
        ),
        (
            RESPONSES,
            {"tools": [FUNCTION, WEB], "tool_choice": ONLY_WEB},
            "tool type web_search is not supported here",
            "tool_choice",
        ),
        (
            RESPONSES,
            {"tools": [WEB], "tool_choice": {**ONLY_WEB, "tools": [{"type": "function", "name": "f"}]}},
            "tool type web_search is not supported here",
            "tool_choice",
        ),
        (
            MESSAGES,
            {"tools": [SEARCH], "tool_choice": {"type": "tool", "name": "f"}},
            "web_search runs only on Anthropic's servers",
            "tool_choice",
        ),
        (MESSAGES, {"guided_regex": "a"}, "/v1/chat/completions with structured_outputs", "guided_regex"),
        (MESSAGES, {"guided_json": "{"}, "not JSON", "guided_json"),
        (MESSAGES, {"guided_json": SCHEMA, "output_config": {"format": {}}}, "not both", "output_config"),
        (MESSAGES, {"tools": [{"type": "new_thing_20301231", "name": "new"}]}, "The tool new has the type", "tools"),
        (
            MESSAGES,
            {"tools": [{"type": "new_thing_20301231", "name": "y" * 1000}]},
            f"The tool {'y' * 200}… has the type",
            "tools",
        ),
        (MESSAGES, {"tools": [{"type": "computer_20250124", "name": "computer"}]}, "The tool computer has", "tools"),
        (
            MESSAGES,
            {"tools": [OWN, SEARCH], "tool_choice": {"type": "tool", "name": "web_search"}},
            "web_search runs only on Anthropic's servers",
            "tool_choice",
        ),
        (MESSAGES, {"tools": [SEARCH], "tool_choice": {"type": "any"}}, "web_search runs only on", "tool_choice"),
    ],
)
def test_unsupported_fields_are_rejected_by_name(path: str, fields: dict[str, Any], says: str, param: str) -> None:
    with pytest.raises(Incompatible, match=says) as raised:
        adapted(path, **fields)
    assert (raised.value.error.status, raised.value.error.param) == (400, param)


def test_tools_of_anthropics_servers_are_omitted_and_named() -> None:
    body = adapt_body(MESSAGES, json.dumps({"tools": [OWN, SEARCH]}).encode())
    assert (json.loads(body.content), body.omitted) == ({"tools": [OWN]}, ("web_search",))
    body = adapt_body(MESSAGES, json.dumps({"tools": [SEARCH], "tool_choice": {"type": "auto"}}).encode())
    assert (json.loads(body.content), body.omitted) == ({}, ("web_search",))


@pytest.mark.parametrize("kind", ["advisor_20260301", "code_execution_20260120", "tool_search_tool_regex_20251119"])
def test_every_kind_of_tool_that_anthropics_servers_run_is_omitted(kind: str) -> None:
    body = adapt_body(MESSAGES, json.dumps({"tools": [OWN, {"type": kind, "name": "named"}]}).encode())
    assert (json.loads(body.content), body.omitted) == ({"tools": [OWN]}, ("named",))


@pytest.mark.parametrize("kind", ["bash_20250124", "text_editor_20250728", "memory_20250818"])
def test_tools_that_clients_run_get_their_published_schema(kind: str) -> None:
    (tool,) = adapted(MESSAGES, tools=[{"type": kind, "name": "named"}])["tools"]
    assert tool["name"] == "named"
    assert "command" in tool["input_schema"]["properties"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, b'{"messages": [{"content": "guided_json"}]}'),
        (CHAT, b'{"messages": [{"content": "\\"guided_json\\""}], "x": "\xff"}'),
        (CHAT, b'{"guided_json": '),
        (CHAT, b'["guided_json"]'),
        (CHAT, b'{"guided_json": ' + b"[" * 100_000),
        (CHAT, b'{"guided_json": ' + b"9" * 5000 + b"}"),
        ("/v1/embeddings", b'{"guided_json": {}}'),
        (MESSAGES, b'{"tools": 3, "x": "web_search_"}'),
        (MESSAGES, b'{"tools": [3, {"type": 3}, null], "x": "\\"web_search_"}'),
    ],
)
def test_other_bodies_pass_to_vllm_unchanged(path: str, body: bytes) -> None:
    assert adapt_body(path, body).content is body
