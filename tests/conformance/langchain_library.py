"""langchain-openai as applications use it, with nothing set but address, key and model. See checks.py."""

import asyncio
from typing import Any

from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from tests.conformance.checks import WEATHER, Check, Target, run_checks

QUESTION = "What is the weather in Paris?"
TOOL = {"name": "weather", "description": "The weather of a city", "parameters": WEATHER}
CITY = {"title": "City", "description": "A city", **WEATHER}


def model(target: Target, **more: Any) -> Any:
    asked = {"max_tokens": 256, "max_retries": 0, "timeout": 120, **more}
    return ChatOpenAI(model=target.model, base_url=target.base, api_key=target.key, **asked)


def invoke(target: Target) -> None:
    answer = model(target).invoke(QUESTION)
    assert answer.content, answer
    assert answer.usage_metadata["output_tokens"] > 0, answer


def stream(target: Target) -> None:
    chunks = list(model(target, stream_usage=True).stream(QUESTION))
    assert "".join(chunk.content for chunk in chunks), chunks
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) > 0, chunks[-2:]


def batch(target: Target) -> None:
    answers = asyncio.run(model(target).abatch([QUESTION, "Say hello."]))
    assert all(answer.content for answer in answers), answers


def responses(target: Target) -> None:
    answer = model(target, use_responses_api=True).invoke(QUESTION)
    assert answer.text, answer
    assert "".join(chunk.text for chunk in model(target, use_responses_api=True).stream(QUESTION))


def conversation(target: Target) -> None:
    messages = [("system", "Be brief."), ("human", "Hello"), ("ai", "Hi."), ("human", QUESTION)]
    assert model(target).invoke(messages).content


def log_probabilities(target: Target) -> None:
    answer = model(target, logprobs=True, top_logprobs=2, max_tokens=4).invoke(QUESTION)
    assert len(answer.response_metadata["logprobs"]["content"][0]["top_logprobs"]) == 2, answer


def tool(choice: str) -> Check:
    def check(target: Target) -> None:
        (call, *_) = model(target).bind_tools([TOOL], tool_choice=choice).invoke(QUESTION).tool_calls
        assert (call["name"], type(call["args"]["city"])) == ("weather", str), call

    return check


def structured(method: str) -> Check:
    def check(target: Target) -> None:
        found = model(target).with_structured_output(CITY, method=method).invoke(QUESTION)
        assert isinstance(found["city"], str), found

    return check


def embeddings(target: Target) -> None:
    """Sends text. By default the library sends the tokens of OpenAI's own models."""
    asked: dict[str, Any] = {"base_url": target.base, "api_key": target.key, "check_embedding_ctx_length": False}
    client = OpenAIEmbeddings(model=target.model, **asked)
    assert [len(each) for each in client.embed_documents(["a dam", "a river"])] == [384, 384]
    assert len(asyncio.run(client.aembed_query("a dam"))) == 384


TEXT: dict[str, Check] = {
    "invoke": invoke,
    "stream with usage": stream,
    "batch": batch,
    "Responses API": responses,
    "conversation": conversation,
}

GROUPS: dict[str, dict[str, Check]] = {
    "text": TEXT,
    "model": {
        **TEXT,
        "log probabilities": log_probabilities,
        **{f"tool, {choice}": tool(choice) for choice in ("any", "weather")},
        **{f"structured output by {method}": structured(method) for method in ("json_schema", "function_calling")},
    },
    "embedding": {"embeddings": embeddings},
}

if __name__ == "__main__":
    run_checks(GROUPS)
