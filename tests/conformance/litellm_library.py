"""LiteLLM as a library, by its providers for such servers, with each way to write a base URL. See checks.py."""

import asyncio
import json
import os
from typing import Any

os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}  # it would ask the network

import litellm

from tests.conformance.checks import WEATHER, Check, Target, run_checks

litellm.suppress_debug_info = True

MESSAGES = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather", "parameters": WEATHER}}
SHORT = {"max_tokens": 16, "num_retries": 0, "timeout": 120}


def where(target: Target, provider: str, base: str = "") -> dict[str, Any]:
    return {"model": f"{provider}/{target.model}", "api_base": base or target.base, "api_key": target.key}


def expect_chat(answer: Any) -> None:
    assert answer.choices[0].message.content, answer
    assert answer.usage.completion_tokens > 0, answer


def chat(provider: str, ending: str = "/v1") -> Check:
    def check(target: Target) -> None:
        asked = where(target, provider, target.address + ending)
        expect_chat(litellm.completion(messages=MESSAGES, **asked, **SHORT))

    return check


def chat_streamed(provider: str) -> Check:
    def check(target: Target) -> None:
        usage = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = list(litellm.completion(messages=MESSAGES, **where(target, provider), **usage, **SHORT))
        expect_chat(litellm.stream_chunk_builder(chunks, messages=MESSAGES))

    return check


def chat_async(target: Target) -> None:
    expect_chat(asyncio.run(litellm.acompletion(messages=MESSAGES, **where(target, "hosted_vllm"), **SHORT)))


def text(provider: str) -> Check:
    def check(target: Target) -> None:
        answer = litellm.text_completion(prompt="The capital of France is", **where(target, provider), **SHORT)
        assert answer.choices[0].text, answer

    return check


def response(provider: str) -> Check:
    def check(target: Target) -> None:
        asked = {"input": "Say hello.", "max_output_tokens": 64, **where(target, provider)}
        answer = litellm.responses(**asked)
        assert answer.output[0].content[0].text, answer
        kinds = [event.type for event in litellm.responses(stream=True, **asked)]
        assert kinds[0] == "response.created", kinds[:3]
        assert kinds[-1] in ("response.completed", "response.incomplete"), kinds[-3:]

    return check


def anthropic_chat(target: Target) -> None:
    expect_chat(litellm.completion(messages=MESSAGES, **where(target, "anthropic", target.address), **SHORT))


def anthropic_messages(target: Target) -> None:
    asked = {"messages": MESSAGES, "max_tokens": 16, **where(target, "anthropic", target.address)}
    answer: Any = asyncio.run(litellm.anthropic.messages.acreate(**asked))
    assert answer["content"][0]["text"], answer
    assert answer["usage"]["output_tokens"] > 0, answer


def wrong_model(target: Target) -> None:
    asked = {**where(target, "hosted_vllm"), "model": "hosted_vllm/no-such-model"}
    try:
        litellm.completion(messages=MESSAGES, **asked, **SHORT)
    except litellm.NotFoundError:
        return
    raise AssertionError("no error")


def wrong_key(target: Target) -> None:
    asked = {**where(target, "openai"), "api_key": "fb_this-is-not-the-key"}
    try:
        litellm.completion(messages=MESSAGES, **asked, **SHORT)
    except litellm.AuthenticationError:
        return
    raise AssertionError("no error")


def expect_city(text: str) -> None:
    assert isinstance(json.loads(text)["city"], str), text


def tool(provider: str) -> Check:
    def check(target: Target) -> None:
        forced = {"tools": [TOOL], "tool_choice": "required", "max_tokens": 256}
        answer = litellm.completion(messages=MESSAGES, **where(target, provider), **{**SHORT, **forced})
        (call, *_) = answer.choices[0].message.tool_calls
        assert call.function.name == "weather", call
        expect_city(call.function.arguments)

    return check


def structured(target: Target) -> None:
    layout = {"type": "json_schema", "json_schema": {"name": "city", "schema": WEATHER, "strict": True}}
    asked = {**SHORT, "max_tokens": 256, "response_format": layout}
    answer = litellm.completion(messages=MESSAGES, **where(target, "hosted_vllm"), **asked)
    expect_city(answer.choices[0].message.content)


def embedding(provider: str) -> Check:
    def check(target: Target) -> None:
        answer = litellm.embedding(input=["a dam", "a river"], **where(target, provider))
        assert [len(each["embedding"]) for each in answer.data] == [384, 384], answer

    return check


def rerank(provider: str, ending: str) -> Check:
    def check(target: Target) -> None:
        asked = {"query": "water", "documents": ["a dam", "a shoe"], "top_n": 2}
        answer: Any = litellm.rerank(**asked, **where(target, provider, target.address + ending))
        assert {each["index"] for each in answer.results} == {0, 1}, answer

    return check


TEXT: dict[str, Check] = {
    **{f"chat, {provider}": chat(provider) for provider in ("openai", "hosted_vllm", "custom_openai")},
    **{f"chat streamed, {provider}": chat_streamed(provider) for provider in ("openai", "hosted_vllm")},
    **{
        f"chat, base URL with {ending or 'nothing'}": chat("hosted_vllm", ending)
        for ending in ("", "/", "/v1/", "/openai/v1", "/v2/any/openai/v1", "/v2/any/openai/v1/", "/v2/any/openai")
    },
    "chat, async": chat_async,
    **{f"completion, {provider}": text(provider) for provider in ("text-completion-openai", "hosted_vllm")},
    **{f"response, {provider}": response(provider) for provider in ("openai", "hosted_vllm")},
    "chat, anthropic": anthropic_chat,
    "messages, anthropic": anthropic_messages,
    "wrong model": wrong_model,
}

GROUPS: dict[str, dict[str, Check]] = {
    "text": {**TEXT, "wrong key": wrong_key},
    "model": {**TEXT, **{f"tool, {name}": tool(name) for name in ("openai", "hosted_vllm")}, "structured": structured},
    "embedding": {
        **{f"embedding, {provider}": embedding(provider) for provider in ("openai", "hosted_vllm")},
        "rerank, hosted_vllm": rerank("hosted_vllm", "/v1"),
        "rerank, hosted_vllm by the whole URL": rerank("hosted_vllm", "/v1/rerank"),
        "rerank, cohere": rerank("cohere", ""),
    },
}

if __name__ == "__main__":
    run_checks(GROUPS)
