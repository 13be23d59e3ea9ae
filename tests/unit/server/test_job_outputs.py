"""The output of each form of RunPod's jobs."""

import json
from typing import Any

import pytest

from forebay_server.asgi_client import AppReply
from forebay_server.config.settings import JobSettings
from forebay_server.jobs.calls import Call, Form
from forebay_server.jobs.options import JobError
from forebay_server.jobs.outputs import OutputBatches, emit
from tests.unit.server.test_runsync import pieces

MESSAGES = [{"role": "user", "content": "Hi"}]
STREAM = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}


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
