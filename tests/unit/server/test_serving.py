"""Replies as the specifications have them, on what vLLM dumps."""

import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from forebay_server.api_compat.anthropic import complete_message
from forebay_server.api_compat.openai import complete_chat, complete_model, complete_text, with_reasoning_content
from forebay_server.api_compat.responses import ABSENT_FIELDS, complete_event, complete_response, make_readable


def test_a_chat_completion_omits_fields_without_a_value() -> None:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": None,
        "audio": None,
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop", "token_ids": None}
    usage = {"prompt_tokens": 1, "prompt_tokens_details": None}
    reply = complete_chat({"id": "c", "service_tier": None, "choices": [choice], "usage": usage, "metrics": None})
    assert reply == {
        "id": "c",
        "service_tier": "default",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": None, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1},
    }


def test_vllms_own_fields_stay_if_they_have_a_value() -> None:
    choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop", "stop_reason": 2}
    assert complete_text({"choices": [choice], "usage": None})["choices"][0]["stop_reason"] == 2


def _response(status: str = "completed") -> dict[str, Any]:
    part: dict[str, Any] = {"type": "output_text", "text": "x", "annotations": [], "logprobs": None}
    item = {"type": "message", "content": [part], "phase": None}
    return {"id": "r", "created_at": 1, "status": status, "output": [item], "text": None, "user": None}


def test_a_response_has_every_field() -> None:
    reply = complete_response(_response(), {"store": False, "prompt_cache_key": "k"})
    assert reply.keys() >= ABSENT_FIELDS.keys()
    assert reply["text"] == {"format": {"type": "text"}}
    assert (reply["store"], reply["prompt_cache_key"]) == (False, "k")
    assert isinstance(reply["completed_at"], int)
    assert "user" not in reply
    assert reply["output"][0]["content"][0]["logprobs"] == []
    assert "phase" not in reply["output"][0]


def test_a_truncated_response_ends_as_incomplete() -> None:
    event = complete_event({"type": "response.completed", "response": _response("incomplete")}, {})
    assert event["type"] == "response.incomplete"
    assert event["response"]["completed_at"] is None


def test_a_message_has_the_fields_that_are_null() -> None:
    reply = complete_message({"content": [{"type": "text", "text": "x"}], "usage": {"input_tokens": 1}})
    assert reply["content"] == [{"type": "text", "text": "x", "citations": None}]
    assert reply["stop_sequence"] is None
    assert reply["usage"]["service_tier"] is None


def test_a_model_does_not_reveal_the_path_of_its_files() -> None:
    assert complete_model({"id": "m", "root": "/model", "parent": None, "permission": [1]}) == {"id": "m"}
    assert complete_model({"id": "a/b", "root": "a/b"}) == {"id": "a/b", "root": "a/b"}


class Item(SimpleNamespace):
    """An object of the client's library, as far as it is used."""

    def model_dump(self, *, exclude_none: bool) -> dict[str, Any]:
        def dump(value: Any) -> Any:
            if isinstance(value, list):
                return [dump(each) for each in value]
            return value.model_dump(exclude_none=exclude_none) if isinstance(value, Item) else value

        return {name: dump(value) for name, value in vars(self).items() if not (exclude_none and value is None)}


def test_items_sent_back_by_clients_are_converted_for_vllm() -> None:
    text, more = Item(type="output_text", text="a"), Item(type="output_text", text="b")
    refusal = Item(type="refusal", refusal="no")
    message = Item(type="message", role="assistant", status="completed", content=[text, more, refusal])
    part = Item(type="input_text", text="5", prompt_cache_breakpoint=None)
    output = Item(type="function_call_output", call_id=None, output=[part])
    call, given = Item(type="function_call", name="f"), {"role": "user", "content": "x"}
    request = SimpleNamespace(input=[message, Item(type="message", content=[]), output, call, given])
    make_readable(request)
    assert request.input == [
        {"type": "message", "role": "assistant", "status": "completed", "content": "abno"},
        {"type": "message", "content": ""},
        {"type": "function_call_output", "call_id": None, "output": [{"type": "input_text", "text": "5"}]},
        call,
        given,
    ]


def test_text_input_is_unchanged() -> None:
    request = SimpleNamespace(input="x")
    make_readable(request)
    assert request.input == "x"
    make_readable(SimpleNamespace())


async def test_reasoning_has_both_names_in_a_stream_too() -> None:
    async def events() -> AsyncIterator[str]:
        for delta in ({"role": "assistant"}, {"reasoning": 'a "quoted" ü'}, {"content": '"reasoning":'}):
            yield f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]}, ensure_ascii=False)}\n\n"
        yield 'data: {"choices": [], "usage": {}}\n\n'
        yield "data: [DONE]\n\n"

    first, thought, answer, usage, done = [event async for event in with_reasoning_content(events())]
    delta = json.loads(thought.removeprefix("data: "))["choices"][0]["delta"]
    assert delta == {"reasoning": 'a "quoted" ü', "reasoning_content": 'a "quoted" ü'}
    assert "reasoning_content" not in first + answer + usage + done
    assert json.loads(answer.removeprefix("data: "))["choices"][0]["delta"]["content"] == '"reasoning":'
