"""A suffix reaches a model that can fill in as its own tokens, and is refused for one that cannot."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.vllm.models import Models
from tests.vllm.server import Server
from tests.vllm.server_calls import ask

NAME = "Tiny Coder, v1"
"""RunPod's variable has one name, whatever is in it."""


@pytest.fixture
def coder(serve: Callable[..., Server], models: Models) -> Server:
    server = serve(MODEL_NAME=models.path("coder"), OPENAI_SERVED_MODEL_NAME_OVERRIDE=NAME)
    server.wait_for("/readyz")
    return server


def complete(server: Server, **fields: Any) -> tuple[int, Any]:
    return ask(server, "/v1/completions", model=NAME, max_tokens=4, **fields)


def test_a_suffix_is_inserted_into_the_prompt(coder: Server) -> None:
    status, reply = complete(coder, prompt=["ab", "c"], suffix="de", return_token_ids=True)
    assert status == 200, reply
    prompts = [
        ask(coder, "/v1/detokenize", model=NAME, tokens=choice["prompt_token_ids"])[1]["prompt"].replace(" ", "")
        for choice in reply["choices"]
    ]
    assert prompts == [f"<|fim_prefix|>{text}<|fim_suffix|>de<|fim_middle|>" for text in ("ab", "c")]
    assert all(len(choice["prompt_token_ids"]) <= 7 for choice in reply["choices"]), "each mark is one token"


def test_fields_that_conflict_with_a_suffix_are_rejected(coder: Server) -> None:
    for fields in ({"prompt": "ab", "echo": True}, {"prompt": [1, 2]}):
        status, reply = complete(coder, suffix="de", **fields)
        assert (status, reply["error"]["param"], reply["error"]["code"]) == (400, "suffix", "unsupported_parameter")


def test_a_model_that_cannot_fill_in_gives_an_error(writer: Server) -> None:
    status, reply = complete(writer, prompt="ab", suffix="de")
    assert (status, reply["error"]["param"]) == (400, "suffix"), reply
    assert complete(writer, prompt="ab", suffix="")[0] == 200
