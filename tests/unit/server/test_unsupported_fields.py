"""Ignored fields are named, and fields whose meaning would be lost are rejected."""

import json
from typing import Any

import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import ResponseTextConfig, response_create_params
from openai.types.shared import Reasoning
from pydantic import BaseModel, ConfigDict, Field

from forebay_server.api_compat.incompatible import Incompatible
from forebay_server.api_compat.paths import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES
from forebay_server.api_compat.request_fields import adapt_body
from forebay_server.api_compat.unsupported_fields import NO_EFFECT, find_ignored

REFUSED = {CHAT: {"modalities"}, RESPONSES: {"conversation", "prompt"}}
"""Those of `prompt` are refused by vLLM itself."""

EFFECTIVE = {
    CHAT: "frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages"
    " model n parallel_tool_calls presence_penalty reasoning_effort response_format seed stop stream_options"
    " temperature tool_choice tools top_logprobs top_p",
    COMPLETIONS: "echo frequency_penalty logit_bias logprobs max_tokens model n presence_penalty prompt seed stop"
    " stream_options suffix temperature top_p",
    RESPONSES: "background include input instructions max_output_tokens metadata model parallel_tool_calls"
    " previous_response_id reasoning temperature text tool_choice tools top_p truncation",
    EMBEDDINGS: "dimensions encoding_format input model",
}
"""Fields with an effect, or fields that the response repeats."""

PARAMETERS = {
    CHAT: chat_create_params.CompletionCreateParamsBase,
    COMPLETIONS: completion_create_params.CompletionCreateParamsBase,
    RESPONSES: response_create_params.ResponseCreateParamsBase,
    EMBEDDINGS: embedding_create_params.EmbeddingCreateParams,
}


@pytest.mark.parametrize("path", PARAMETERS)
def test_every_parameter_of_openais_client_has_an_effect_or_is_reported(path: str) -> None:
    parameters = set(PARAMETERS[path].__annotations__)
    handled = NO_EFFECT[path].keys() | REFUSED.get(path, set())
    assert parameters - handled == set(EFFECTIVE[path].split())


class Request(BaseModel):
    """As vLLM's models of OpenAI's requests are."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    user: str | None = None
    stream_options: dict[str, Any] | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class ResponsesRequest(BaseModel):
    """A model like vLLM's, whose parts are models of openai-python."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    include: list[str] | None = None
    metadata: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    reasoning: Reasoning | None = None
    service_tier: str = "auto"
    store: bool | None = True
    text: ResponseTextConfig | None = None
    top_logprobs: int = 0
    user: str | None = None


class Thinking(BaseModel):
    type: str
    display: str | None = None


class OutputConfig(BaseModel):
    effort: str | None = None


class Strict(BaseModel):
    """A model like vLLM's models of Anthropic's requests: they drop unknown fields."""

    model: str
    metadata: dict[str, Any] | None = None
    output_config: OutputConfig | None = None
    thinking: Thinking | None = None


def ignored(path: str = CHAT, **fields: Any) -> tuple[str, ...]:
    body = Request.model_validate({"model": "m", **fields})
    return find_ignored(path, body, body.model_extra or {})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"max_tokens": 4, "schema": {}}, ()),
        ({"store": True, "metadata": {"a": "b"}, "user": "u"}, {"store", "metadata", "user"}),
        ({"store": False, "metadata": {}, "user": None, "prediction": None}, ()),
        ({"service_tier": "auto"}, ()),
        ({"service_tier": "priority"}, {"service_tier"}),
        ({"web_search_options": {}}, {"web_search_options"}),
        ({"temprature": 0.5}, {"temprature;suggestion=temperature"}),
        ({"max_token": 5}, {"max_token;suggestion=max_tokens"}),
        ({"enable_magic": True}, {"enable_magic"}),
        ({"enable_magic": None}, ()),
        ({"stream_options": {"include_usage": True}}, ()),
        ({"stream_options": {"include_obfuscation": False}}, ()),
        ({"stream_options": {"include_obfuscation": True}}, {"stream_options.include_obfuscation"}),
    ],
)
def test_ignored_fields_are_named_with_a_suggestion(fields: dict[str, Any], named: Any) -> None:
    assert set(ignored(**fields)) == set(named)


LOGPROBS = {"include": ["message.output_text.logprobs"]}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"text": {"verbosity": "low"}, "user": "u"}, {"text.verbosity", "user"}),
        ({"text": {"format": {"type": "text"}, "verbosity": "medium"}, "store": False, "reasoning": None}, ()),
        ({"store": True, "prompt_cache_key": "k", "metadata": {"a": "b"}}, {"store", "prompt_cache_key"}),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning.summary"}),
        ({"reasoning": {"context": "all_turns", "mode": "pro"}}, {"reasoning.context", "reasoning.mode"}),
        ({"reasoning": {"effort": "low", "context": "auto", "mode": "standard"}}, ()),
        ({"service_tier": "flex"}, {"service_tier"}),
        ({"top_logprobs": 2}, {"top_logprobs"}),
        ({"top_logprobs": 2, **LOGPROBS}, ()),
        ({"top_logprobs": 0}, ()),
    ],
)
def test_ignored_parts_of_a_responses_request_are_named(fields: dict[str, Any], named: Any) -> None:
    body = ResponsesRequest.model_validate(fields)
    assert set(find_ignored(RESPONSES, body, body.model_extra or {})) == set(named)


def test_store_has_an_effect_only_if_responses_are_stored() -> None:
    assert find_ignored(RESPONSES, ResponsesRequest(store=True), {}, stores=True) == ()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, ("thinking.display",)),
        ({"thinking": {"type": "adaptive", "display": "summarized"}}, ()),
        ({"output_config": {"effort": "low"}}, ()),
        ({"output_config": {"task_budget": {"type": "tokens", "total": 9}}}, ("output_config.task_budget",)),
    ],
)
def test_ignored_parts_of_a_messages_request_are_named(fields: dict[str, Any], named: Any) -> None:
    sent = {"model": "m", **fields}
    assert find_ignored(MESSAGES, Strict.model_validate(sent), sent) == named


def test_fields_dropped_by_a_model_class_are_found_in_the_body() -> None:
    sent = {"model": "m", "metadata": {"user_id": "u"}, "mcp_servers": [{"name": "x"}], "modle": "m"}
    assert set(find_ignored(MESSAGES, Strict.model_validate(sent), sent)) == {
        "metadata",
        "mcp_servers",
        "modle;suggestion=model",
    }


def test_the_names_are_bounded() -> None:
    fields: dict[str, Any] = {f"{'x' * 100_000}{number}": 1 for number in range(100)}
    names = ignored("/v1/chat/completions", **fields)
    assert (len(names), max(map(len, names))) == (16, 64)


def adapted(path: str, **fields: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(adapt_body(path, json.dumps(fields).encode()).content)
    return content


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"modalities": ["text", "audio"]}, "modalities"),
        (CHAT, {"modalities": "audio"}, "modalities"),
        (CHAT, {"modalities": {"audio": True}}, "modalities"),
        (CHAT, {"modalities": False}, "modalities"),
        (CHAT, {"modalities": [["text"]]}, "modalities"),
        (RESPONSES, {"conversation": "conv_1"}, "conversation"),
        (RESPONSES, {"conversation": {"id": "conv_1"}}, "conversation"),
    ],
)
def test_fields_whose_meaning_would_be_lost_are_rejected(path: str, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Incompatible) as refused:
        adapt_body(path, json.dumps({"model": "m", **fields}).encode())
    assert (refused.value.error.status, refused.value.error.param) == (400, param)


@pytest.mark.parametrize(
    ("path", "fields", "left"),
    [
        (CHAT, {"modalities": ["text"]}, {}),
        (CHAT, {"modalities": []}, {}),
        (CHAT, {"modalities": "text"}, {}),
        (CHAT, {"modalities": None}, {"modalities": None}),
        (RESPONSES, {"conversation": None}, {"conversation": None}),
        (RESPONSES, {"input": [{"type": "function_call"}]}, {"input": [{"type": "function_call"}]}),
    ],
)
def test_fields_with_empty_values_are_accepted(path: str, fields: dict[str, Any], left: dict[str, Any]) -> None:
    assert adapted(path, **fields) == left


TEXT = {"type": "text", "media_type": "text/plain", "data": "x"}
CITED = {"type": "document", "source": TEXT, "citations": {"enabled": True}}


@pytest.mark.parametrize(
    ("path", "blocks", "named"),
    [
        (MESSAGES, [CITED], ("messages.citations",)),
        (MESSAGES, [{"type": "search_result", "content": [], "citations": {"enabled": True}}], ("messages.citations",)),
        (MESSAGES, [{"type": "tool_result", "tool_use_id": "t", "content": [CITED]}], ("messages.citations",)),
        (MESSAGES, [{**CITED, "citations": {"enabled": False}}, {**CITED, "citations": 3}], ()),
        (MESSAGES, [{"type": "document", "source": TEXT}, {"type": "text", "text": "x", "citations": []}], ()),
        (f"{MESSAGES}/count_tokens", [CITED], ()),
    ],
)
def test_documents_with_citations_enabled_are_named(path: str, blocks: list[Any], named: tuple[str, ...]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": blocks}, "odd"]}
    assert adapt_body(path, json.dumps(body).encode()).ignored == named
