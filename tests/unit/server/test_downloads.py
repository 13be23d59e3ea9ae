"""The files to download from a repository. The download itself is tested in tests/vllm."""

from pathlib import Path

import pytest

from forebay_server.lifecycle.downloads import RemoteFile, Repository, comes_from_hub, select_files


def files(*names: str) -> list[RemoteFile]:
    return [RemoteFile(name, 10, name, large=name.endswith((".safetensors", ".bin"))) for name in names]


@pytest.mark.parametrize(
    ("load_format", "there", "chosen"),
    [
        ("auto", ["model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
        ("auto", ["pytorch_model.bin", "training_args.bin"], ["pytorch_model.bin"]),
        ("auto", ["model-1.safetensors", "consolidated.safetensors"], ["consolidated.safetensors"]),
        ("hf", ["model-1.safetensors", "x/model.safetensors"], ["model-1.safetensors"]),
        ("dummy", ["model.safetensors"], []),
        ("auto", ["README.md", "original/consolidated.00.pth"], []),
    ],
)
def test_the_weights_that_vllm_will_load_are_chosen(load_format: str, there: list[str], chosen: list[str]) -> None:
    small = ["config.json", "tokenizer.json", "chat_template.jinja"]
    assert [file.name for file in select_files(files(*small, *there), load_format)] == small + chosen


@pytest.mark.parametrize(
    ("model", "env", "hub"),
    [
        ("org/name", {}, True),
        ("gpt2", {}, True),
        ("/model", {}, False),
        ("s3://bucket/x", {}, False),
        ("org/name:Q4_K_M", {}, False),
        ("org/name", {"HF_HUB_OFFLINE": "1"}, False),
        ("org/name", {"VLLM_USE_MODELSCOPE": "True"}, False),
    ],
)
def test_only_repositories_are_downloaded(model: str, env: dict[str, str], hub: bool) -> None:
    assert comes_from_hub(model, env) is hub


def test_bytes_of_complete_and_partial_files_are_counted(tmp_path: Path) -> None:
    repository = Repository("org/name", None, tuple(files("a", "b", "c")), tmp_path)
    assert repository.bytes_here(repository.files) == 0
    blobs = tmp_path / "models--org--name" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "a").write_bytes(bytes(10))
    (blobs / "b.0123abcd.incomplete").write_bytes(bytes(4))
    (blobs / "b.4567abcd.incomplete").write_bytes(bytes(3))
    assert repository.bytes_here(repository.files) == 14
