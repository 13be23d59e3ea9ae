"""The whole API for text models: a tiny model of random weights with an adapter, to check the
shape of answers and constraints; and canned answers for outputs that are parsed, such as tool calls."""

import json
import re
from typing import Any

import pytest

from tests.vllm.models import ROLE
from tests.vllm.routes import HELLO
from tests.vllm.server import NAME, Server
from tests.vllm.server_calls import BASES, ask, assert_not_available, both_urls, client, events, post

pytestmark = pytest.mark.gate

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def chat(server: Server, base: str = BASES[0], **more: Any) -> dict[str, Any]:
    """The answer to HELLO."""
    body = {"model": NAME, "messages": HELLO, "max_tokens": 8, **more}
    status, content = ask(server, f"{base}/chat/completions", **body)
    assert status == 200, content
    reply: dict[str, Any] = content
    return reply


@both_urls
def test_adapters_are_models(writer: Server, base: str) -> None:
    openai = client(writer, base)
    assert [model.id for model in openai.models.list()] == [NAME, "polite"]
    assert openai.models.retrieve("polite").id == "polite"
    plain, polite = (chat(writer, base, model=model, temperature=0, max_tokens=32) for model in (NAME, "polite"))
    assert polite["model"] == "polite"
    assert plain["choices"][0]["message"]["content"] != polite["choices"][0]["message"]["content"]


@both_urls
def test_answers_have_the_role_that_is_set(writer: Server, canned: Server, base: str) -> None:
    for server, role in ((writer, ROLE), (canned, "assistant")):
        assert chat(server, base)["choices"][0]["message"]["role"] == role
        first, *_ = events(server, f"{base}/chat/completions", model=NAME, messages=HELLO, max_tokens=2)
        assert first["choices"][0]["delta"]["role"] == role


@both_urls
def test_prompts_are_rendered_by_the_template_that_is_set(writer: Server, canned: Server, base: str) -> None:
    """Without one by the model's own. Each letter is a token."""
    for server, text in ((writer, "<<user says Hello. >> "), (canned, "user: Hello\nassistant: ")):
        prompt = chat(server, base, return_token_ids=True)["prompt_token_ids"]
        assert ask(server, f"{base}/detokenize", model=NAME, tokens=prompt)[1]["prompt"] == text
        assert ask(server, f"{base}/tokenize", model=NAME, messages=HELLO)[1]["tokens"] == prompt
        _, message = ask(server, f"{base}/messages", model=NAME, messages=HELLO, max_tokens=1)
        _, response = ask(server, f"{base}/responses", model=NAME, input="Hello", max_output_tokens=1)
        assert message["usage"]["input_tokens"] == response["usage"]["input_tokens"] == len(text)


@both_urls
def test_sampling(writer: Server, base: str) -> None:
    reply = chat(writer, base, n=3, logprobs=True, top_logprobs=2, seed=7, temperature=1)
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
    for choice in reply["choices"]:
        assert all(len(token["top_logprobs"]) == 2 for token in choice["logprobs"]["content"])
    again = chat(writer, base, n=3, logprobs=True, top_logprobs=2, seed=7, temperature=1)
    texts = [[choice["message"]["content"] for choice in each["choices"]] for each in (reply, again)]
    assert texts[0] == texts[1], "the same seed"


@both_urls
def test_generated_text_ends_at_a_stop_string(writer: Server, base: str) -> None:
    structure = {"structured_outputs": {"regex": "abcdefgh"}}
    reply = chat(writer, base, stop=["d"], max_tokens=16, **structure)
    assert reply["choices"][0]["message"]["content"] == "abc"
    assert reply["choices"][0]["finish_reason"] == "stop"


def is_city(text: str) -> bool:
    return bool(json.loads(text)["city"] in ("Paris", "Rome"))


SCHEMA = WEATHER["function"]["parameters"]


@both_urls
@pytest.mark.parametrize(
    ("structure", "holds"),
    [
        ({"structured_outputs": {"choice": ["yes", "no"]}}, lambda text: text in ("yes", "no")),
        ({"structured_outputs": {"regex": "[0-9]{4}"}}, lambda text: re.fullmatch("[0-9]{4}", text)),
        ({"structured_outputs": {"grammar": 'root ::= "a" "b"'}}, lambda text: text == "ab"),
        ({"structured_outputs": {"json": SCHEMA}}, is_city),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}}, is_city),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, is_city),
        ({"guided_choice": ["yes", "no"]}, lambda text: text in ("yes", "no")),
        ({"guided_regex": "[0-9]{4}"}, lambda text: re.fullmatch("[0-9]{4}", text)),
        ({"guided_grammar": 'root ::= "a" "b"'}, lambda text: text == "ab"),
        ({"guided_json": SCHEMA}, is_city),
    ],
    ids=[
        "choice",
        "regex",
        "grammar",
        "json",
        "json_schema",
        "json_object",
        "guided_choice",
        "guided_regex",
        "guided_grammar",
        "guided_json",
    ],
)
def test_responses_have_the_requested_structure(
    writer: Server, base: str, structure: dict[str, Any], holds: Any
) -> None:
    reply = chat(writer, base, max_tokens=64, **structure)
    assert holds(reply["choices"][0]["message"]["content"])


def test_old_names_of_constraints_work_on_every_api(writer: Server) -> None:
    status, reply = ask(writer, "/v1/completions", model=NAME, prompt="Hello", guided_regex="[0-9]{4}", max_tokens=64)
    assert re.fullmatch("[0-9]{4}", reply["choices"][0]["text"]), (status, reply)
    status, reply = ask(writer, "/v1/responses", model=NAME, input="Hello", guided_choice=["yes"], max_output_tokens=64)
    assert reply["output"][-1]["content"][0]["text"] == "yes", (status, reply)
    status, reply = ask(writer, "/v1/messages", model=NAME, messages=HELLO, guided_json=SCHEMA, max_tokens=64)
    assert is_city(reply["content"][-1]["text"]), (status, reply)
    status, reply = ask(writer, "/v1/messages", model=NAME, messages=HELLO, guided_regex="a", max_tokens=64)
    assert (status, reply["error"]["param"]) == (400, "guided_regex")


def test_several_choices_at_temperature_0_are_the_most_likely_one(writer: Server) -> None:
    reply = chat(writer, n=2, temperature=0, seed=1)
    first, second = (choice["message"]["content"] for choice in reply["choices"])
    assert first == second == chat(writer, temperature=0)["choices"][0]["message"]["content"]
    assert chat(writer, top_p=0)["choices"][0]["message"]["content"] == first


def test_max_tokens_above_the_context_is_an_upper_bound_except_for_jobs(writer: Server) -> None:
    stop: dict[str, Any] = {"structured_outputs": {"regex": "abcd"}}
    assert chat(writer, max_tokens=10**7, **stop)["choices"][0]["message"]["content"] == "abcd"
    assert chat(writer, max_completion_tokens=10**7, max_tokens=None, **stop)["choices"]
    status, reply = ask(writer, "/v1/responses", model=NAME, input="Hello", max_output_tokens=10**7, **stop)
    assert (status, reply["status"]) == (200, "completed"), reply
    body = {"model": NAME, "messages": HELLO, "max_tokens": 10**7}
    job = {"route": "/v1/chat/completions", "body": body, "whole_answer": True}
    _, answer = ask(writer, "/v2/any/runsync", input=job)
    assert answer["output"][0]["status_code"] == 400
    assert "max_tokens" in answer["output"][0]["body"]["error"]["message"]


def test_more_than_four_stop_strings_are_accepted(writer: Server) -> None:
    assert chat(writer, stop=[f"stop {number}" for number in range(9)])


def test_tools_of_anthropics_servers_are_omitted(writer: Server) -> None:
    own = {"name": "read", "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}}}
    tools = [own, {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}]
    status, reply = ask(writer, "/v1/messages", model=NAME, messages=HELLO, tools=tools, max_tokens=4)
    assert (status, reply["type"]) == (200, "message"), reply


def test_a_budget_for_thinking_is_no_error_where_the_model_does_not_think(writer: Server) -> None:
    budget = {"type": "enabled", "budget_tokens": 1024}
    fields = {"messages": HELLO, "guided_json": SCHEMA, "max_tokens": 2000, "thinking": budget}
    status, reply = ask(writer, "/v1/messages", model=NAME, **fields)
    assert status == 200, reply
    assert is_city(reply["content"][-1]["text"])


def test_tools_that_openais_clients_send_are_accepted(writer: Server) -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}
    function = {"type": "function", **WEATHER["function"]}
    tools = [function, {"type": "custom", "name": "apply_patch", "format": grammar}]
    tools += [{"type": kind} for kind in ("web_search", "local_shell", "apply_patch", "image_generation")]
    status, reply = ask(writer, "/v1/responses", model=NAME, input="Hi", tools=tools, max_output_tokens=4)
    assert status == 200, reply
    assert [tool["type"] for tool in reply["tools"]] == ["function", "custom"]


def test_functions_are_called_in_the_form_that_they_are_sent(writer: Server) -> None:
    forced = {"functions": [WEATHER["function"]], "function_call": {"name": "weather"}}
    fields: dict[str, Any] = {**forced, "max_tokens": 128, "seed": 7}
    message = chat(writer, **fields)["choices"][0]["message"]
    assert message["function_call"]["name"] == "weather"
    assert is_city(message["function_call"]["arguments"])
    body = {"model": NAME, "messages": HELLO, **fields}
    deltas = [event["choices"][0]["delta"] for event in events(writer, "/v1/chat/completions", **body)]
    calls = [delta["function_call"] for delta in deltas if "function_call" in delta]
    assert calls[0]["name"] == "weather"
    assert is_city("".join(call.get("arguments") or "" for call in calls))
    assert not any("tool_calls" in delta for delta in deltas)


def test_fields_without_effect_are_named_in_a_header(writer: Server) -> None:
    create: Any = client(writer, "/v1").chat.completions.with_raw_response.create
    more = {"store": True, "user": "u", "extra_body": {"temprature": 1}}
    answer = create(model=NAME, messages=HELLO, max_tokens=2, **more)
    assert set(answer.headers["x-forebay-ignored"].split(", ")) == {
        "store",
        "user",
        "temprature;suggestion=temperature",
    }
    plain = create(model=NAME, messages=HELLO, max_tokens=2)
    assert "x-forebay-ignored" not in plain.headers


def test_fields_whose_meaning_would_be_lost_are_rejected(writer: Server) -> None:
    for path, fields in (
        ("chat/completions", {"messages": HELLO, "modalities": ["audio"]}),
        ("responses", {"input": "Hi", "conversation": "conv_1"}),
        ("responses", {"input": "Hi", "prompt": {"id": "pmpt_1"}}),
    ):
        status, reply = ask(writer, f"/v1/{path}", model=NAME, **fields)
        assert (status, reply["error"]["param"]) == (400, list(fields)[1]), reply


def test_a_conversation_that_is_not_stored_must_be_sent_completely(writer: Server) -> None:
    status, content = ask(writer, "/v1/responses", model=NAME, input="Hi", previous_response_id="resp_1")
    assert (status, content["error"]["type"]) == (404, "invalid_request_error"), content
    assert "send the whole conversation as input" in content["error"]["message"]


@both_urls
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_required_tools_are_called(writer: Server, base: str, choice: Any) -> None:
    fields = {"tools": [WEATHER], "tool_choice": choice, "max_tokens": 128, "seed": 7}  # by others it may never end
    (call,) = chat(writer, base, **fields)["choices"][0]["message"]["tool_calls"][:1]
    assert call["function"]["name"] == "weather"
    assert is_city(call["function"]["arguments"])
    body = {"model": NAME, "messages": HELLO, **fields}
    deltas = [event["choices"][0]["delta"] for event in events(writer, f"{base}/chat/completions", **body)]
    parts = [part for delta in deltas for part in delta.get("tool_calls") or () if part["index"] == 0]
    assert parts[0]["function"]["name"] == "weather"
    assert is_city("".join(part["function"].get("arguments") or "" for part in parts))


@both_urls
def test_every_api_for_text_answers(writer: Server, base: str) -> None:
    openai = client(writer, base)
    assert openai.completions.create(model=NAME, prompt="Hello", max_tokens=2).choices[0].text is not None
    on = {"ignore_eos": True}
    response = openai.responses.create(model=NAME, input="Hello", max_output_tokens=4, extra_body=on)
    assert (response.status, response.output[0].type) == ("incomplete", "message")
    stream = openai.responses.create(model=NAME, input="Hi", max_output_tokens=4, stream=True, extra_body=on)
    kinds = [event.type for event in stream]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.incomplete")
    status, message = ask(writer, f"{base}/messages", model=NAME, messages=HELLO, max_tokens=2)
    assert (status, message["type"], message["stop_reason"]) == (200, "message", "max_tokens")
    assert ask(writer, f"{base}/messages/count_tokens", model=NAME, messages=HELLO)[1]["input_tokens"] > 4
    tokens = ask(writer, f"{base}/tokenize", model=NAME, prompt="Hello")[1]["tokens"]
    assert ask(writer, f"{base}/detokenize", model=NAME, tokens=tokens)[1]["prompt"] == "Hello"
    usage = events(writer, f"{base}/chat/completions", model=NAME, messages=HELLO, max_tokens=2,
                   stream_options={"include_usage": True})[-1]  # fmt: skip
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 2)


@both_urls
def test_one_request_has_a_bounded_number_of_answers(writer: Server, base: str) -> None:
    status, content = ask(writer, f"{base}/completions", model=NAME, prompt="x", max_tokens=1, n=129)
    assert (status, content["error"]["type"]) == (400, "invalid_request_error"), content
    assert "128" in content["error"]["message"]


@both_urls
@pytest.mark.parametrize(
    ("route", "fields", "param"),
    [
        ("chat/completions", {}, "messages"),
        ("chat/completions", {"messages": HELLO, "n": "many"}, "n"),
        ("chat/completions", {"messages": HELLO, "tools": [{"type": "function", "function": {}}]}, "name"),
        ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}, None),
        ("completions", {"prompt": "x", "logprobs": "all"}, "logprobs"),
        ("responses", {}, "input"),
        ("responses", {"input": [{"type": "message", "role": "user", "content": 7}]}, None),
        ("messages", {"messages": HELLO}, None),
        ("messages", {"messages": [{"role": "user", "content": 7}], "max_tokens": 4}, None),
    ],
)
def test_an_invalid_request_gets_one_short_message(
    writer: Server, base: str, route: str, fields: dict[str, Any], param: str | None
) -> None:
    status, content = ask(writer, f"{base}/{route}", model=NAME, **fields)
    message = content["error"]["message"]
    assert status == 400, content
    assert "\n" not in message, message
    assert len(message) < 500, message
    assert not any(word in message for word in ("validation error", "pydantic", "input_type", "[{")), message
    assert param is None or param in message, message


@both_urls
def test_a_body_of_another_type_is_rejected_with_one_short_message(writer: Server, base: str) -> None:
    status, text = post(writer, f"{base}/chat/completions", b"model=x", kind="application/x-www-form-urlencoded")
    assert status == 400, text
    assert "application/json" in json.loads(text)["error"]["message"]


@both_urls
def test_a_text_model_reports_unsupported_routes(writer: Server, base: str) -> None:
    for route in ("embeddings", "score", "rerank", "classify", "moderations", "pooling", "realtime", "audio/speech"):
        assert_not_available(ask(writer, f"{base}/{route}", model=NAME, input="Hello"))
    for route in ("images/generations", "files", "batches"):
        assert_not_available(ask(writer, f"{base}/{route}", model=NAME))


@both_urls
def test_reasoning_is_separate_from_the_answer(canned: Server, base: str) -> None:
    message = chat(canned, base, max_tokens=200)["choices"][0]["message"]
    assert message["reasoning"] == message["reasoning_content"] == "It is asked."
    assert message["content"].startswith("<tool_call>")
    fields = {"model": NAME, "messages": HELLO, "max_tokens": 200}
    deltas = [event["choices"][0]["delta"] for event in events(canned, f"{base}/chat/completions", **fields)]
    for name in ("reasoning", "reasoning_content"):
        assert "".join(delta.get(name) or "" for delta in deltas) == "It is asked."
    assert "".join(delta.get("content") or "" for delta in deltas).startswith("<tool_call>")


@both_urls
def test_a_model_may_choose_to_call_tools(canned: Server, base: str) -> None:
    fields = {"model": NAME, "messages": HELLO, "tools": [WEATHER], "tool_choice": "auto", "max_tokens": 200}
    choice = chat(canned, base, **fields)["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert (call["function"]["name"], choice["finish_reason"]) == ("weather", "tool_calls")
    assert is_city(call["function"]["arguments"])
    deltas = [event["choices"][0]["delta"] for event in events(canned, f"{base}/chat/completions", **fields)]
    arguments = (part["function"].get("arguments") or "" for d in deltas for part in d.get("tool_calls") or ())
    assert is_city("".join(arguments))
