"""A model that is baked into the image. The file of the tests' image is a link to one that a test can write."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.vllm.server import Server
from tests.vllm.server_calls import ask

FILE = Path("/local_model_args.json")


@pytest.fixture
def baked(tmp_path: Path) -> Iterator[Path]:
    """The target of the link FILE."""
    if not FILE.is_symlink():
        pytest.skip("only in the tests' image a test can bake a model in: make vllm")
    file = Path(os.readlink(FILE))
    yield file
    file.unlink()


def test_a_baked_in_model_overrides_the_variables(serve: Callable[..., Server], tiny_model: Path, baked: Path) -> None:
    args = {"MODEL_NAME": str(tiny_model), "TOKENIZER_NAME": str(tiny_model), "MAX_MODEL_LEN": 512}
    baked.write_text(json.dumps({**args, "QUANTIZATION": None}))
    server = serve(MODEL_NAME="acme/of-the-hub", OPENAI_SERVED_MODEL_NAME_OVERRIDE="baked")
    server.wait_for("/readyz")
    body = {"model": "baked", "prompt": "Hello", "max_tokens": 2, "ignore_eos": True}
    status, content = ask(server, "/v1/completions", **body)
    assert (status, content["usage"]["completion_tokens"]) == (200, 2), content
    status, refused = ask(server, "/v1/completions", **{**body, "max_tokens": 600})
    assert status == 400, "512 tokens is what the file says"
    assert "512" in refused["error"]["message"]
    log = server.log.read_text()
    assert "MODEL_NAME='acme/of-the-hub' is ignored: /local_model_args.json of the image sets" in log
    assert "MAX_MODEL_LEN='4096' is ignored" in log


def test_a_file_without_a_model_is_reported(serve: Callable[..., Server], baked: Path) -> None:
    baked.write_text("{}")
    failure = serve().failure(60)
    assert (failure["reason"], failure["status"]) == ("InvalidConfiguration", "78"), failure
    assert failure["message"].startswith("/local_model_args.json, the file of a baked-in model,")
