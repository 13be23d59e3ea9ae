"""The input of RunPod's jobs in all its forms."""

import time
from typing import Any

import pytest

from forebay_server.api_compat.paths import CHAT, COMPLETIONS
from forebay_server.jobs.calls import Call, Form, call_of
from forebay_server.jobs.options import JobError

MESSAGES = [{"role": "user", "content": "Hi"}]
STREAM = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}


@pytest.mark.parametrize(
    ("content", "call"),
    [
        ({"prompt": "Hi"}, ("POST", COMPLETIONS, {"model": None, "max_tokens": 100, "prompt": "Hi"}, Form.TOKENS)),
        (
            {"prompt": "Hi", "apply_chat_template": True},
            ("POST", CHAT, {"model": None, "max_tokens": 100, "messages": MESSAGES}, Form.TOKENS),
        ),
        ({"messages": MESSAGES}, ("POST", CHAT, {"model": None, "max_tokens": 100, "messages": MESSAGES}, Form.TOKENS)),
        (
            {"prompt": MESSAGES, "model": "lora"},
            ("POST", CHAT, {"model": "lora", "max_tokens": 100, "messages": MESSAGES}, Form.TOKENS),
        ),
        (
            {"prompt": "Hi", "stream": True, "sampling_params": {"max_tokens": 5, "top_k": 2, "logprobs": None}},
            ("POST", COMPLETIONS, {"model": None, "max_tokens": 5, "top_k": 2, **STREAM, "prompt": "Hi"}, Form.TOKENS),
        ),
        (
            {"prompt": "Hi", "sampling_params": {"guided_decoding": {"regex": "a"}, "best_of": 1}},
            (
                "POST",
                COMPLETIONS,
                {"model": None, "max_tokens": 100, "structured_outputs": {"regex": "a"}, "prompt": "Hi"},
                Form.TOKENS,
            ),
        ),
        *[
            (
                {"prompt": "Hi", "sampling_params": parameters},
                (
                    "POST",
                    COMPLETIONS,
                    {"model": None, "max_tokens": 100, "structured_outputs": {"regex": "a"}, "prompt": "Hi"},
                    Form.TOKENS,
                ),
            )
            for parameters in (
                {"structured_outputs": {"regex": "a"}, "guided_decoding": None},
                {"guided_decoding": {"regex": "a"}, "structured_outputs": None},
            )
        ],
        (
            {"openai_route": "/v1/completions", "openai_input": {"prompt": "Hi"}},
            ("POST", COMPLETIONS, {"prompt": "Hi"}, Form.OPENAI),
        ),
        ({"openai_input": {"messages": MESSAGES}}, ("POST", CHAT, {"messages": MESSAGES}, Form.OPENAI)),
        ({"openai_route": "/v1/models"}, ("GET", "/v1/models", None, Form.OPENAI)),
        ({"openai_route": "v1/models", "openai_input": {}}, ("GET", "/v1/models", None, Form.OPENAI)),
        ({"route": "/v1/models"}, ("GET", "/v1/models", None, Form.ROUTE)),
        ({"route": "/tokenize", "body": {"prompt": "a"}}, ("POST", "/tokenize", {"prompt": "a"}, Form.ROUTE)),
        ({"route": "/v1/models", "body": {}}, ("GET", "/v1/models", {}, Form.ROUTE)),
        ({"openai_input": {}, "route": "/v1/models"}, ("GET", "/v1/models", None, Form.ROUTE)),
        ({"route": "/v1/models", "method": "post"}, ("POST", "/v1/models", None, Form.ROUTE)),
        ({"route": "/v1/models", "stream": [], "stop": ""}, ("GET", "/v1/models", None, Form.ROUTE)),
        ({"route": "/v1/models", "whole_answer": True}, ("GET", "/v1/models", None, Form.WHOLE_ANSWER)),
    ],
)
def test_every_form_of_input_becomes_one_request(
    content: dict[str, Any], call: tuple[str, str, dict[str, Any] | None, Form]
) -> None:
    assert call_of(content) == Call(*call)


@pytest.mark.parametrize(
    ("content", "path", "body"),
    [
        ({"prompt": "Hi"}, COMPLETIONS, {"model": None, "prompt": "Hi", "stream": False}),
        ({"messages": MESSAGES, "prompt": "no"}, CHAT, {"model": None, "messages": MESSAGES, "stream": False}),
        (
            {"prompt": "Hi", "apply_chat_template": True},
            CHAT,
            {"model": None, "messages": MESSAGES, "stream": False},
        ),
        (
            {"prompt": "Hi", "stream": True, "sampling_params": {"logprobs": 2, "echo": True, "best_of": 2, "n": 2}},
            COMPLETIONS,
            {"model": None, "logprobs": 2, "echo": True, "n": 2, "prompt": "Hi", "stream": True},
        ),
        (
            {"messages": MESSAGES, "model": "lora", "sampling_params": {"tools": [], "stream": False, "prompt": ""}},
            CHAT,
            {"model": "lora", "tools": [], "messages": MESSAGES, "stream": False},
        ),
        (
            {
                "messages": MESSAGES,
                "sampling_params": {"guided_decoding": {"json": {}}, "guided_regex": "a", "user": "u"},
            },
            CHAT,
            {
                "model": None,
                "structured_outputs": {"json": {}},
                "guided_regex": "a",
                "user": "u",
                "messages": MESSAGES,
                "stream": False,
            },
        ),
        (
            {
                "prompt": "Hi",
                "stream": True,
                "sampling_params": {"stream_options": {"include_usage": True}, "store": 1},
            },
            COMPLETIONS,
            {
                "model": None,
                "stream_options": {"include_usage": True},
                "store": 1,
                "prompt": "Hi",
                "stream": True,
            },
        ),
    ],
)
def test_prompt_and_messages_become_the_requests_of_the_current_worker(
    content: dict[str, Any], path: str, body: Any
) -> None:
    """With RAW_VLLM_OUTPUT: no max_tokens of the worker's own, and sampling_params are the fields of the request."""
    assert call_of(content, raw=True) == Call("POST", path, body, Form.ROUTE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"prompt": "Hi", "max_tokens": 9}, "it belongs in input.sampling_params."),
        ({"messages": MESSAGES, "tools": [{}]}, "input.tools has no effect here: it belongs in input.samp"),
        ({"prompt": "Hi", "sampling_params": [1]}, "sampling_params must be an object"),
        ({"prompt": "Hi", "sampling_params": {"best_of": 2}}, "best_of=2 is not possible"),
        ({"prompt": "Hi", "sampling_params": {"temprature": 1}}, "has no temprature. Did you mean temperature?"),
        ({"prompt": "Hi", "sampling_params": {"enable_magic": 1}}, "sampling_params has no enable_magic."),
        (
            {
                "prompt": "Hi",
                "sampling_params": {"guided_decoding": {"regex": "a"}, "structured_outputs": {"json": {}}},
            },
            "send guided_decoding or structured_outputs, not both.",
        ),
        (
            {"prompt": "Hi", "sampling_params": {"guided_decoding": {"regex": "a", "backend": "outlines"}}},
            "guided_decoding.backend cannot be set",
        ),
        ({"prompt": "Hi", "sampling_params": {"stream": True}}, "it belongs in input.stream."),
        ({"prompt": "Hi", "sampling_params": {"messages": MESSAGES}}, "it belongs in input.messages."),
        ({"messages": MESSAGES, "sampling_params": {"prompt": "Hi"}}, "it belongs in input.prompt."),
        ({"prompt": "Hi", "sampling_params": {"tools": [{}]}}, "sampling_params.tools needs messages, or apply_chat"),
        ({"messages": MESSAGES, "sampling_params": {"suffix": "x"}}, "sampling_params.suffix needs a prompt without"),
    ],
)
def test_fields_without_effect_are_reported_for_the_current_worker(content: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError) as error:
        call_of(content, raw=True)
    assert message in str(error.value)


def test_batch_sizes_of_the_input_are_kept() -> None:
    content = {"prompt": "Hi", "max_batch_size": 10, "min_batch_size": "2", "batch_size_growth_factor": None}
    assert call_of(content).batching == {"max_batch_size": 10.0, "min_batch_size": 2.0}
    assert call_of({"openai_input": {"prompt": "Hi"}, "max_batch_size": 3}).batching == {"max_batch_size": 3.0}


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(
    "own",
    [
        *("userId", "user_id", "request_id", "session_id", "promptId", "messageId", "webhook", "metadata", "mode"),
        *("step", "topic", "document", "template", "system", "language", "task", "x" * 100_000),
    ],
)
def test_fields_of_the_client_alone_are_unchanged(own: str, raw: bool) -> None:
    for content in ({"prompt": "Hi"}, {"openai_input": {"prompt": "Hi"}}, {"route": "/tokenize", "body": {}}):
        assert call_of({**content, own: 3, "max_tokens": None}, raw=raw) == call_of(content, raw=raw)


def test_many_unknown_fields_are_processed_quickly() -> None:
    content = {"prompt": "Hi", **{f"max_tokns_{number}": 1 for number in range(200_000)}}
    began = time.perf_counter()
    call_of(content)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Hi", "input must be an object."),
        ({}, "input needs one of prompt, messages, openai_input and route."),
        ({"prompt": ""}, "input needs one of"),
        ({"prompt": "Hi", "sampling_params": {"temprature": 1}}, "Did you mean temperature?"),
        ({"prompt": "Hi", "sampling_params": []}, None),
        ({"prompt": "Hi", "sampling_params": "x"}, "sampling_params must be an object."),
        ({"prompt": "Hi", "sampling_params": {"best_of": 3}}, "best_of=3 is not possible"),
        ({"prompt": "Hi", "max_batch_size": "many"}, "max_batch_size must be a number above 0."),
        ({"prompt": "Hi", "sampling_params": {"logprobs": 3}}, "logprobs has no effect: this output has no place"),
        (
            {"prompt": "Hi", "max_tokens": 9},
            "input.max_tokens has no effect here: it belongs in input.samp",
        ),
        ({"prompt": "Hi", "guided_json": {}}, "it belongs in input.sampling_params."),
        *[
            (
                {"messages": MESSAGES, name: value},
                f"input.{name} has no effect here: it belongs in input.openai_input, with input.openai",
            )
            for name, value in {
                "tools": [{}],
                "tool_choice": "auto",
                "functions": [{}],
                "function_call": "auto",
                "logprobs": True,
                "user": "u",
                "reasoning_effort": "low",
                "stream_options": {"include_usage": True},
                "suffix": "x",
                "echo": True,
            }.items()
        ],
        ({"messages": MESSAGES, "chat_template_kwargs": {"a": 1}}, "it belongs in input.sampling_params."),
        ({"messages": MESSAGES, "response_format": {"type": "json_object"}}, "it belongs in input.sampling_params."),
        (
            {"prompt": "Hi", "temprature": 1},
            "input.temprature is unknown. Did you mean temperature? It belongs in input.sampling_params.",
        ),
        ({"prompt": "Hi", "maxTokens": 1}, "Did you mean max_tokens? It belongs in input.sampling_params."),
        ({"prompt": "Hi", "topp": 1}, "Did you mean top_p? It belongs in input.sampling_params."),
        ({"prompt": "Hi", "sampling_param": {}}, "input.sampling_param is unknown. Did you mean sampling_params?"),
        ({"openai_input": {"prompt": "Hi"}, "tool_choices": "a"}, "It belongs in input.openai_input."),
        ({"openai_input": {"prompt": "Hi"}, "tools": [{}]}, "it belongs in input.openai_input."),
        ({"route": "/v1/completions", "body": {}, "echo": True}, "it belongs in input.body."),
        ({"prompt": "Hi", "sampling_params": {"stream": True}}, "it belongs in input.stream."),
        ({"prompt": "Hi", "sampling_params": {"tools": [{}]}}, "tools has no effect: this output has no place for it."),
        ({"prompt": "Hi", "sampling_params": {"max_completion_tokens": 5}}, "needs messages"),
        ({"prompt": "Hi", "max_batch_size": 10**400}, "max_batch_size must be a number above 0."),
        ({"prompt": "Hi", "sampling_params": {"chat_template_kwargs": {"a": 1}}}, "needs messages"),
        ({"openai_input": {"prompt": "Hi"}, "stream": True}, "input.stream has no effect here: it belongs"),
        ({"openai_input": {"prompt": "Hi"}, "sampling_params": {}}, "it belongs in input.openai_input."),
        ({"route": "/v1/completions", "body": {}, "temperature": 0}, "it belongs in input.body."),
        ({"route": "/v1/completions", "body": {}, "max_batch_size": 3}, "it belongs in input.body."),
        ({"openai_route": 3, "openai_input": {"a": 1}}, "The route must be a path"),
        ({"openai_input": [1]}, "The body of the request must be an object."),
        ({"route": "/v1/models", "method": 3}, "input.method must be a word"),
    ],
)
def test_an_invalid_input_fails_with_the_reason(content: object, message: str | None) -> None:
    if message is None:
        assert call_of(content).form is Form.TOKENS
        return
    with pytest.raises(JobError) as error:
        call_of(content)
    assert message in str(error.value)
