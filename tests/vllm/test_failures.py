"""Starts that fail, by the real vLLM: what the termination log says."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.hub import Faults
from tests.vllm.models import Models
from tests.vllm.server import REPOSITORY, Server, endpoint, serving
from tests.vllm.test_liveness import CANNED

Serve = Callable[..., Server]


@pytest.fixture
def changed(tiny_model: Path, tmp_path: Path) -> Callable[..., str]:
    """A copy of the tiny model with another config.json."""

    def change(**fields: object) -> str:
        folder = tmp_path / "changed"
        shutil.copytree(tiny_model, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **fields}))
        return str(folder)

    return change


@pytest.mark.parametrize(
    ("variables", "reason", "says"),
    [
        ({"QUANTIZATION": "awqq"}, "InvalidConfiguration", "Did you mean awq?"),
        ({"LOAD_FORMAT": "dumy"}, "InvalidConfiguration", "Did you mean dummy?"),
        ({"MAX_MODEL_LEN": "9000"}, "MaxModelLenTooLarge", "8192"),
        ({"KV_CACHE_MEMORY_BYTES": "300000"}, "MaxModelLenTooLarge", "MAX_MODEL_LEN=4096 tokens needs"),
        ({"CUSTOM_CHAT_TEMPLATE": "no-such.jinja"}, "InvalidConfiguration", "no-such.jinja"),
        ({"CUSTOM_CHAT_TEMPLATE": "Hello {% for %}"}, "InvalidChatTemplate", "answered"),
        ({"ENABLE_LORA": "true", "LORA_MODULES": "sql=/no/adapter"}, "InvalidAdapter", "/no/adapter"),
        ({"LOAD_FORMAT": "auto"}, "NoWeights", "no weights"),
        ({"MODEL_NAME": "/no/model"}, "InvalidModel", "/no/model"),
        ({"MAX_NUM_BATCHED_TOKENS": "4096", "MAX_NUM_SEQS": "8192"}, "InvalidConfiguration", "max_num_seqs (8192)"),
        ({"TENSOR_PARALLEL_SIZE": "3"}, "InvalidParallelism", "2 attention heads"),
    ],
)
def test_an_invalid_setting_is_reported(serve: Serve, variables: dict[str, str], reason: str, says: str) -> None:
    failure = serve(**variables).failure()
    assert (failure["reason"], failure["status"]) == (reason, "78"), failure
    assert says in failure["message"]
    assert failure["remedy"]


@pytest.mark.parametrize(
    ("fields", "reason", "says"),
    [
        ({"architectures": ["NovelForCausalLM"]}, "UnsupportedArchitecture", "NovelForCausalLM"),
        ({"model_type": "novel"}, "UnsupportedArchitecture", "novel"),
        ({"quantization_config": {"quant_method": "nope"}}, "UnknownQuantization", "nope"),
    ],
)
def test_a_model_that_vllm_cannot_run_is_reported(
    serve: Serve, changed: Callable[..., str], fields: dict[str, object], reason: str, says: str
) -> None:
    failure = serve(MODEL_NAME=changed(**fields)).failure()
    assert (failure["reason"], failure["status"]) == (reason, "78"), failure
    assert says in failure["message"]


def test_an_adapter_with_too_high_a_rank_is_reported(serve: Serve, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"peft_type": "LORA", "r": 64, "lora_alpha": 16, "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    failure = serve(ENABLE_LORA="true", LORA_MODULES=f"sql={adapter}").failure()
    assert failure["reason"] == "InvalidAdapter", failure
    assert "MAX_LORA_RANK=64" in failure["remedy"]


@pytest.fixture
def gated(tiny_model: Path) -> Iterator[str]:
    with serving(tiny_model, Faults(), token="hf_secret") as hub:
        yield endpoint(hub)


def test_a_gated_repository_is_reported_within_seconds(serve: Serve, gated: str) -> None:
    failure = serve(MODEL_NAME=REPOSITORY, HF_ENDPOINT=gated).failure()
    assert (failure["reason"], failure["status"]) == ("GatedRepository", "78")


NO_TORCHVISION = """
from importlib.machinery import PathFinder
real = PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name == "torchvision" else real(name, path, target)
PathFinder.find_spec = find_spec
"""
"""For sitecustomize.py: Python finds no torchvision."""


def test_a_library_missing_for_a_model_class_is_named(serve: Serve, models: Models, tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without/sitecustomize.py").write_text(NO_TORCHVISION)
    path = os.pathsep.join(filter(None, (str(tmp_path / "without"), os.environ.get("PYTHONPATH"))))
    variables = {"MODEL_NAME": models.path("vision"), "MAX_MODEL_LEN": "2048", "PYTHONPATH": path}
    failure = serve(**variables, VLLM_CACHE_ROOT=str(tmp_path / "looked-at-nothing-yet")).failure()
    assert (failure["reason"], failure["status"]) == ("MissingLibrary", "78"), failure
    assert "torchvision" in failure["message"].lower()


def test_a_start_that_takes_too_long_ends_and_names_its_step(serve: Serve) -> None:
    failure = serve(VLLM_STARTUP_TIMEOUT="1").failure(20)
    assert (failure["reason"], failure["status"]) == ("StartupTimeout", "1"), failure
    assert "within 1 s" in failure["message"]


def test_a_model_that_never_answers_ends_with_its_engine(serve: Serve) -> None:
    server = serve(**{**CANNED, "FOREBAY_CANNED_STEP_SECONDS": "600"}, VLLM_STARTUP_TIMEOUT="40")
    server.wait_for("/startup")
    while json.loads(server.wait_for("/startup"))["step"] != "WarmingUp":
        time.sleep(0.1)
    engine = server.children()
    assert engine
    failure = server.failure(60)
    assert (failure["reason"], failure["status"]) == ("StartupTimeout", "1"), failure
    assert failure["message"].endswith("the start was at the step WarmingUp.")
    deadline = time.monotonic() + 20
    while left := [pid for pid in engine if command(pid)]:
        assert time.monotonic() < deadline, f"{left} are left"
        time.sleep(0.1)


def test_an_engine_killed_while_it_starts_is_reported(serve: Serve) -> None:
    server = serve()
    server.wait_for("/startup")
    while not (engines := [pid for pid in server.children() if b"EngineCore" in command(pid)]):
        assert server.process.poll() is None, server.log.read_text()
        time.sleep(0.05)
    os.kill(engines[-1], signal.SIGKILL)
    failure = server.failure()
    assert (failure["reason"], failure["status"]) == ("OutOfHostMemory", "1"), failure


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""
