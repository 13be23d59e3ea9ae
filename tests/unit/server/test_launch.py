"""Additions to the user's settings. The complete plan needs vLLM and is tested in its image."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from forebay_server import vllm_compat
from forebay_server.config.env_to_flags import Resolution
from forebay_server.failure import StartError
from forebay_server.launch import Launch, add_parsers, cors_defaults, cpu_defaults, may_fork, parse, plugins


def given(**changed: object) -> Namespace:
    parsed: dict[str, object] = {
        "kv_cache_memory_bytes": None,
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "data_parallel_size": 1,
        "distributed_executor_backend": None,
    }
    return Namespace(**(parsed | changed))


KV = "--kv-cache-memory-bytes=1G"
UNI = "--distributed-executor-backend=uni"


@pytest.mark.parametrize(
    ("parsed", "env", "arguments", "variables"),
    [
        (given(), {}, [KV, UNI], {"TORCHDYNAMO_DISABLE", "VLLM_ENABLE_V1_MULTIPROCESSING"}),
        (given(kv_cache_memory_bytes=1), {}, [UNI], {"TORCHDYNAMO_DISABLE", "VLLM_ENABLE_V1_MULTIPROCESSING"}),
        (given(), {"VLLM_CPU_KVCACHE_SPACE": "4"}, [UNI], {"TORCHDYNAMO_DISABLE", "VLLM_ENABLE_V1_MULTIPROCESSING"}),
        (given(tensor_parallel_size=2), {}, [KV], {"TORCHDYNAMO_DISABLE"}),
        (given(distributed_executor_backend="mp"), {}, [KV], {"TORCHDYNAMO_DISABLE"}),
        (given(), {"TORCHDYNAMO_DISABLE": "0"}, [KV, UNI], {"VLLM_ENABLE_V1_MULTIPROCESSING"}),
    ],
)
def test_cpu_defaults_do_not_change_existing_settings(
    parsed: Namespace, env: dict[str, str], arguments: list[str], variables: set[str]
) -> None:
    added, set_for_vllm = cpu_defaults(parsed, env)
    assert added == ["--enforce-eager", *arguments]
    assert set_for_vllm.keys() == variables


@pytest.mark.parametrize(
    ("wanted", "loaded"),
    [(None, "a,forebay,z"), ("z", "z,forebay"), ("", "forebay"), ("forebay,z", "forebay,z")],
)
def test_plugins_are_added_and_never_replaced(wanted: str | None, loaded: str) -> None:
    assert plugins(wanted, ["a", "forebay", "z"]) == loaded


@pytest.mark.parametrize(
    ("parsed", "env", "forked"),
    [
        (given(), {}, True),
        (given(tensor_parallel_size=2), {}, False),
        (given(numa_bind=True), {}, False),
        (given(), {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}, False),
    ],
)
def test_one_process_on_a_cpu_is_forked_by_default(parsed: Namespace, env: dict[str, str], forked: bool) -> None:
    assert may_fork(parsed, env) == forked


@pytest.mark.parametrize(
    ("env", "arguments"),
    [
        ({"FOREBAY_AUTH": "APIKey"}, ['--allowed-origins=["*"]']),
        ({"FOREBAY_AUTH": "APIKey", "ALLOWED_ORIGINS": '["https://app.example.com"]'}, []),
        ({"FOREBAY_AUTH": "None"}, []),
    ],
)
def test_web_pages_of_other_sites_may_call_an_endpoint_with_keys(env: dict[str, str], arguments: list[str]) -> None:
    assert cors_defaults(env) == arguments


class RaisingParser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise vllm_compat.UsageError(message)


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> RaisingParser:
    """A parser with some of vLLM's flags, which reports errors as vllm_compat's does."""
    monkeypatch.setattr(vllm_compat, "value_problem", lambda *_: "")
    monkeypatch.setattr(vllm_compat, "config_keys", lambda _: [])
    raising = RaisingParser(prog="vllm serve")
    raising.add_argument("model_tag", nargs="?")
    for option in ("--model", "--api-key", "--root-path", "--dtype"):
        raising.add_argument(option)
    raising.add_argument("--max-model-len", type=int)
    return raising


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-modle-len", "3"], "vLLM has no --max-modle-len. Did you mean --max-model-len?"),
        (["--max-model-len", "many"], "--max-model-len: expected a whole number."),
        (["--api-key=k"], "--api-key cannot be set: keys come from the endpoint's Secret"),
        (["--root-p=/x"], "--root-path cannot be set: the paths /v1 and"),
    ],
)
def test_every_source_of_arguments_is_checked_in_the_same_way(
    parser: RaisingParser, arguments: list[str], message: str
) -> None:
    for label, resolution in (
        ("spec.args", Resolution("m", endpoint_arguments=arguments)),
        ("VLLM_EXTRA_ARGS", Resolution("m", extra_arguments=arguments)),
        ("VLLM_CONFIG_FILE", Resolution("m", file_arguments=arguments)),
    ):
        with pytest.raises(StartError) as refused:
            parse(parser, resolution)
        assert refused.value.failure.message.startswith(f"{label}: {message}")


def test_a_word_without_a_flag_names_the_field_of_the_model(parser: RaisingParser) -> None:
    for resolution, field in (
        (Resolution("m", endpoint_arguments=["a/b"]), "spec.model"),
        (Resolution("m", extra_arguments=["a/b"]), "MODEL_NAME"),
    ):
        with pytest.raises(StartError, match=rf"'a/b' belongs to no flag. Name the model by {field}\."):
            parse(parser, resolution)


HERMES = "{% if tools %}{{ tools }}{% endif %}<tool_call>{{ messages }}</think>"


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of org/model in the cache of the hub at `tmp_path`."""
    monkeypatch.setattr(vllm_compat, "registered", lambda name: ["hermes", "qwen3"])
    repository = tmp_path / "models--org--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("abc")
    folder = repository / "snapshots/abc"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    (folder / "chat_template.jinja").write_text(HERMES)
    return folder


def launched(hub_cache: Path, *, automatic: bool = True, **changed: Any) -> Launch:
    parsed = {"revision": None, "tokenizer": None, "tokenizer_revision": None, "chat_template": None, **changed}
    plan = Launch("org/model", ["org/model", "--seed=1"], given(**parsed))
    return add_parsers(plan, hub_cache, automatic=automatic)


def test_the_model_files_decide_the_parsers(snapshot: Path, tmp_path: Path) -> None:
    plan = launched(tmp_path)
    assert plan.arguments == ["org/model", "--seed=1", "--enable-auto-tool-choice", "--tool-call-parser=hermes"]
    assert (plan.reasoning_parser, len(plan.notes)) == ("qwen3", 2)
    assert launched(tmp_path, automatic=False).arguments == ["org/model", "--seed=1"]


def test_the_template_of_a_configured_tokenizer_is_used(snapshot: Path, tmp_path: Path) -> None:
    other = tmp_path / "tokenizer"
    other.mkdir()
    assert launched(tmp_path, tokenizer=str(other)).arguments == ["org/model", "--seed=1"]
    assert len(launched(tmp_path, tokenizer="org/model").arguments) == 4


def test_a_model_of_sentence_transformers_gets_no_parser(snapshot: Path, tmp_path: Path) -> None:
    (snapshot / "modules.json").write_text("[]")
    assert launched(tmp_path) == launched(tmp_path, automatic=False)
    assert launched(tmp_path).notes == ()


def test_a_model_without_local_files_starts_unchanged(snapshot: Path, tmp_path: Path) -> None:
    assert launched(tmp_path / "none").arguments == ["org/model", "--seed=1"]
