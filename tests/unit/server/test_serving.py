"""Replies as the specifications have them, on what vLLM dumps."""

from typing import Any

from forebay_server.serving.anthropic import complete_message
from forebay_server.serving.openai import complete_chat, complete_model, complete_text
from forebay_server.serving.responses import ABSENT, complete_event, complete_response


def test_a_chat_completion_leaves_out_what_has_no_value() -> None:
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


def test_vllms_own_fields_stay_where_they_hold_something() -> None:
    choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop", "stop_reason": 2}
    assert complete_text({"choices": [choice], "usage": None})["choices"][0]["stop_reason"] == 2


def _response(status: str = "completed") -> dict[str, Any]:
    part: dict[str, Any] = {"type": "output_text", "text": "x", "annotations": [], "logprobs": None}
    item = {"type": "message", "content": [part], "phase": None}
    return {"id": "r", "created_at": 1, "status": status, "output": [item], "text": None, "user": None}


def test_a_response_has_every_field() -> None:
    reply = complete_response(_response(), {"store": False, "prompt_cache_key": "k"})
    assert reply.keys() >= ABSENT.keys()
    assert reply["text"] == {"format": {"type": "text"}}
    assert (reply["store"], reply["prompt_cache_key"]) == (False, "k")
    assert isinstance(reply["completed_at"], int)
    assert "user" not in reply
    assert reply["output"][0]["content"][0]["logprobs"] == []
    assert "phase" not in reply["output"][0]


def test_an_answer_cut_short_ends_as_incomplete() -> None:
    event = complete_event({"type": "response.completed", "response": _response("incomplete")}, {})
    assert event["type"] == "response.incomplete"
    assert event["response"]["completed_at"] is None


def test_a_message_has_the_fields_that_are_null() -> None:
    reply = complete_message({"content": [{"type": "text", "text": "x"}], "usage": {"input_tokens": 1}})
    assert reply["content"] == [{"type": "text", "text": "x", "citations": None}]
    assert reply["stop_sequence"] is None
    assert reply["usage"]["service_tier"] is None


def test_a_model_does_not_say_where_its_files_are() -> None:
    assert complete_model({"id": "m", "root": "/model", "parent": None, "permission": [1]}) == {"id": "m"}
    assert complete_model({"id": "a/b", "root": "a/b"}) == {"id": "a/b", "root": "a/b"}
