"""Jobs by `/runsync` of a pod: every form of their output, by a model that writes and by canned answers."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.vllm.routes import HELLO
from tests.vllm.server import KEY, NAME, Server
from tests.vllm.server_calls import ask

pytestmark = pytest.mark.gate


def job(server: Server, **content: Any) -> list[Any]:
    """The output of a job."""
    status, answer = ask(server, "/v2/any-id/runsync", input=content)
    assert (status, answer["status"]) == (200, "COMPLETED"), answer
    assert answer["executionTime"] >= 0
    assert answer["id"].startswith("sync-")
    output: list[Any] = answer["output"]
    return output


LETTERS = {"regex": "[a-z]{12}"}
"""Each letter is a token."""


def check_sizes(items: list[Any], sizes: list[int]) -> None:
    """Each item has its expected size, and the last one at most that size.

    vLLM joins tokens that no client has read yet, so on a busy machine there are fewer tokens than letters.
    """
    lengths = [len(item["choices"][0]["tokens"]) for item in items]
    assert lengths[:-1] == sizes[: len(lengths) - 1]
    assert 1 <= lengths[-1] <= sizes[len(lengths) - 1]
    assert len("".join(token for item in items for token in item["choices"][0]["tokens"])) == 12


def test_tokens_of_jobs_come_in_growing_items(writer: Server) -> None:
    """MIN_BATCH_SIZE=2, BATCH_SIZE_GROWTH_FACTOR=2, DEFAULT_BATCH_SIZE=4."""
    sampling = {"max_tokens": 12, "structured_outputs": LETTERS}
    items = job(writer, prompt="Hello", stream=True, sampling_params=sampling)
    check_sizes(items, [2, 4, 4, 4])
    assert items[-1]["usage"] == {"input": 5, "output": 12}
    (whole,) = job(writer, messages=HELLO, sampling_params=sampling)
    assert (len(whole["choices"][0]["tokens"]), whole["usage"]["output"]) == (1, 12)
    own = {"max_batch_size": 6, "min_batch_size": 6}
    check_sizes(job(writer, prompt="Hello", stream=True, sampling_params=sampling, **own), [6, 6])


def test_openai_jobs_are_raw_text_by_default(writer: Server) -> None:
    body = {"model": NAME, "messages": HELLO, "max_tokens": 12, "structured_outputs": LETTERS, "stream": True}
    items = job(writer, openai_route="/v1/chat/completions", openai_input=body)
    assert all(isinstance(item, str) and item.startswith("data: ") for item in items)
    assert "".join(items).endswith("data: [DONE]\n\n")
    assert [item.count("data: ") for item in items][:2] == [2, 4]
    (whole,) = job(writer, openai_route="/v1/chat/completions", openai_input={**body, "stream": False})
    assert whole["object"] == "chat.completion"
    (models,) = job(writer, openai_route="/v1/models")
    assert [card["id"] for card in models["data"]] == [NAME, "polite"]
    (tokens,) = job(writer, route="/tokenize", body={"model": NAME, "prompt": "Hello"})
    assert tokens["count"] == 5


def test_openai_jobs_are_chunks_on_request(canned: Server) -> None:
    """RAW_OPENAI_OUTPUT=0, DEFAULT_MIN_BATCH_SIZE=2, DEFAULT_BATCH_SIZE_GROWTH_FACTOR=1.5, DEFAULT_BATCH_SIZE=3.

    Each of the eight choices has a first chunk with its role alone. How many more there are depends on the load: vLLM
    joins the tokens that wait.
    """
    body = {"model": NAME, "messages": HELLO, "max_tokens": 8, "n": 8, "stream": True}
    items = job(canned, openai_route="/v1/chat/completions", openai_input=body)
    assert [len(item) for item in items][:3] == [2, 3, 3]
    assert all(chunk["object"] == "chat.completion.chunk" for item in items for chunk in item)
    (whole,) = job(canned, openai_input={**body, "stream": False})
    assert whole["object"] == "chat.completion"


def test_prompt_and_messages_get_vllms_own_responses_on_request(canned: Server) -> None:
    """RAW_VLLM_OUTPUT=1: what RunPod's worker answers since 2026-08."""
    (completion,) = job(canned, prompt="Hello", sampling_params={"max_tokens": 3})
    assert (completion["object"], completion["usage"]["completion_tokens"]) == ("text_completion", 3)
    (chat,) = job(canned, messages=HELLO, sampling_params={"max_tokens": 3})
    assert (chat["object"], chat["model"]) == ("chat.completion", NAME)
    events = job(canned, messages=HELLO, stream=True, sampling_params={"max_tokens": 3})
    assert events[-1] == "data: [DONE]\n\n"
    assert {json.loads(each.removeprefix("data: "))["object"] for each in events[:-1]} == {"chat.completion.chunk"}


SDK = """
import json, sys, runpod
runpod.api_key = sys.argv[1]
endpoint = runpod.Endpoint("any-id")
content = {"prompt": "Hello", "sampling_params": {"max_tokens": 3, "ignore_eos": True}}
print(json.dumps(endpoint.run_sync({"input": content}, timeout=60)))
"""


def test_runpods_own_client_runs_a_job(writer: Server) -> None:
    pytest.importorskip("runpod", reason="RunPod's client is in the tests' image")
    env = {**os.environ, "RUNPOD_ENDPOINT_BASE_URL": f"http://127.0.0.1:{writer.port}/v2"}
    done = subprocess.run(
        [sys.executable, "-c", SDK, KEY], env=env, capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == 0, done.stderr
    (item,) = json.loads(done.stdout.splitlines()[-1])
    assert item["usage"] == {"input": 5, "output": 3}
