"""RunPod's jobs: the input in all its forms, and the output of each."""

import json
import time
from typing import Any

import pytest

from forebay_server.api_compat.paths import CHAT, COMPLETIONS
from forebay_server.asgi_client import AppReply
from forebay_server.config.settings import JobSettings
from forebay_server.jobs.calls import Call, Form, call_of
from forebay_server.jobs.options import JobError
from forebay_server.jobs.outputs import OutputBatches, emit
from tests.unit.server.test_runsync import pieces

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


@pytest.mark.parametrize(
    ("numbers", "sizes"),
    [((50, 1, 3), [1, 3, 9, 27, 50, 50]), ((4, 1, 1), [4, 4]), ((2, 5, 3), [2, 2]), ((10, 2, 1.5), [2, 3, 5, 7, 10])],
)
def test_items_grow_up_to_the_maximum(numbers: tuple[float, float, float], sizes: list[int]) -> None:
    batches = OutputBatches(*numbers)
    for size in sizes:
        assert [batches.full(count) for count in range(1, size + 1)] == [False] * (size - 1) + [True]


async def items(
    form: Form, content: object, status: int = 200, settings: JobSettings | None = None, n: int = 1
) -> list[object]:
    """The output for an answer: an object, or a list of the events of a stream, which arrive in small pieces."""
    if isinstance(content, list):
        events = [json.dumps(event) if not isinstance(event, str) else event for event in content]
        text = "".join(f"data: {event}\n\n" for event in events).encode()
        body = pieces(*[text[start : start + 7] for start in range(0, len(text), 7)])
        reply = AppReply(status, "text/event-stream; charset=utf-8", body)
    else:
        reply = AppReply(status, "application/json", pieces(json.dumps(content).encode()))
    call = Call("POST", "/", {"n": n}, form)
    return [item async for item in emit(call, reply, settings or JobSettings())]


COMPLETION = {
    "choices": [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 8},
}
CHAT_COMPLETION = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}


async def test_prompt_and_messages_are_answered_with_tokens() -> None:
    assert await items(Form.TOKENS, COMPLETION) == [
        {"choices": [{"tokens": ["a"]}, {"tokens": ["b"]}], "usage": {"input": 3, "output": 8}}
    ]
    assert await items(Form.TOKENS, CHAT_COMPLETION) == [
        {"choices": [{"tokens": ["Hello"]}], "usage": {"input": 3, "output": 1}}
    ]


def chunk(number: int, text: str) -> dict[str, Any]:
    usage = {"prompt_tokens": 2, "completion_tokens": number}
    return {"choices": [{"index": 0, "text": text}], "usage": usage}


async def test_streamed_tokens_come_in_growing_items_with_the_usage_so_far() -> None:
    stream = [*[chunk(number, str(number)) for number in range(1, 7)], "[DONE]"]
    assert await items(Form.TOKENS, stream) == [
        {"choices": [{"tokens": ["1"]}], "usage": {"input": 2, "output": 1}},
        {"choices": [{"tokens": ["2", "3", "4"]}], "usage": {"input": 2, "output": 4}},
        {"choices": [{"tokens": ["5", "6"]}], "usage": {"input": 2, "output": 6}},
    ]


async def test_choices_are_counted_and_listed_side_by_side() -> None:
    """vLLM counts the tokens of each choice separately."""
    stream: list[Any] = [
        {
            "choices": [{"index": number % 2, "text": "ab"[number % 2]}],
            "usage": {"prompt_tokens": 2, "completion_tokens": number // 2 + 1},
        }
        for number in range(4)
    ]
    output = await items(Form.TOKENS, stream, n=2)
    assert output == [
        {"choices": [{"tokens": ["a"]}, {"tokens": []}], "usage": {"input": 2, "output": 1}},
        {"choices": [{"tokens": ["a"]}, {"tokens": ["b", "b"]}], "usage": {"input": 2, "output": 4}},
    ]


async def test_the_role_and_end_of_a_chat_are_not_tokens() -> None:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, {"content": "A"}, {}]
    stream: list[Any] = [{"choices": [{"index": 0, "delta": delta}], "usage": None} for delta in deltas]
    stream += [{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}, "[DONE]"]
    (item,) = await items(Form.TOKENS, stream)
    assert isinstance(item, dict)
    assert item["choices"] == [{"tokens": ["A"]}]


async def test_an_openai_job_is_answered_with_openais_object() -> None:
    assert await items(Form.OPENAI, CHAT_COMPLETION) == [CHAT_COMPLETION]


@pytest.mark.parametrize(
    ("raw", "output"),
    [
        (True, ['data: {"n": 1}\n\n', 'data: {"n": 2}\n\ndata: {"n": 3}\n\ndata: [DONE]\n\n']),
        (False, [[{"n": 1}], [{"n": 2}, {"n": 3}]]),
    ],
)
async def test_a_streamed_openai_job_is_text_or_chunks(raw: bool, output: list[object]) -> None:
    stream = [{"n": 1}, {"n": 2}, {"n": 3}, "[DONE]"]
    assert await items(Form.OPENAI, stream, settings=JobSettings(raw_openai_output=raw)) == output


async def test_done_alone_makes_no_item() -> None:
    assert await items(Form.OPENAI, ["[DONE]"], settings=JobSettings(raw_openai_output=False)) == []


async def test_a_route_returns_the_response_of_vllm() -> None:
    assert await items(Form.ROUTE, {"tokens": [1]}) == [{"tokens": [1]}]
    assert await items(Form.ROUTE, [{"n": 1}, "[DONE]"]) == ['data: {"n": 1}\n\n', "data: [DONE]\n\n"]


async def test_batch_sizes_group_events_of_the_current_worker() -> None:
    async def output(batching: dict[str, float]) -> list[object]:
        reply = AppReply(200, "text/event-stream", pieces(b"data: 1\n\ndata: 2\n\ndata: [DO", b"NE]\n\n"))
        return [each async for each in emit(Call("POST", "/", {}, Form.ROUTE, batching), reply, JobSettings())]

    assert await output({}) == ["data: 1\n\n", "data: 2\n\n", "data: [DONE]\n\n"]
    assert await output({"max_batch_size": 2}) == ["data: 1\n\n", "data: 2\n\ndata: [DONE]\n\n"]


async def test_a_complete_response_has_its_status() -> None:
    error = {"error": {"message": "max_tokens is too large"}}
    assert await items(Form.WHOLE_ANSWER, error, status=400) == [{"status_code": 400, "body": error}]
    assert await items(Form.WHOLE_ANSWER, {"id": "x"}) == [{"status_code": 200, "body": {"id": "x"}}]


@pytest.mark.parametrize("form", [form for form in Form if form is not Form.WHOLE_ANSWER])
async def test_an_error_fails_the_job_with_its_message(form: Form) -> None:
    error = {"error": {"message": "max_tokens is too large", "code": 400}}
    with pytest.raises(JobError, match="max_tokens is too large"):
        await items(form, error, status=400)
    with pytest.raises(JobError, match="max_tokens is too large"):
        await items(form, [error])
