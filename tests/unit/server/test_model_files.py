"""The content of a model's small files, which may be hostile."""

import json
import os
from pathlib import Path

import pytest

from forebay_server.lifecycle.model_files import (
    MAX_CONFIG_BYTES,
    ModelFiles,
    embeds,
    find_model_folder,
    read_model_files,
)


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / (name.replace("__", "/") if "." in name else f"{name}.json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def read(folder: Path, chat_template: str | None = None) -> ModelFiles:
    return read_model_files("org/model", folder, folder, chat_template)


def test_config_and_template_are_read(tmp_path: Path) -> None:
    config = {"model_type": "mistral3", "text_config": {"model_type": "mistral"}}
    files = read(write(tmp_path, config=config, tokenizer_config={"chat_template": "{{ tools }}"}))
    assert (files.kinds, files.template) == (frozenset({"mistral3", "mistral"}), "{{ tools }}")


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({"chat_template.jinja": "a", "tokenizer_config": {"chat_template": "b"}}, "a"),
        ({"chat_template.jinja": "a", "additional_chat_templates__tool_use.jinja": "t"}, "a\nt"),
        ({"tokenizer_config": {"chat_template": [{"name": "default", "template": "d"}, {"template": "t"}]}}, "d\nt"),
        ({"chat_template": {"chat_template": "p"}}, "p"),
        ({"tokenizer_config": {}}, None),
    ],
)
def test_a_template_is_found_in_every_file_of_transformers(
    tmp_path: Path, files: dict[str, object], template: str | None
) -> None:
    assert read(write(tmp_path, config={"model_type": "qwen3"}, **files)).template == template


def test_the_users_template_replaces_the_models(tmp_path: Path) -> None:
    write(tmp_path, config={"model_type": "qwen3"}, tokenizer_config={"chat_template": "models"})
    mine = tmp_path / "mine.jinja"
    mine.write_text("mine")
    assert read(tmp_path, str(mine)).template == "mine"
    assert read(tmp_path, "{{ messages }}").template == "{{ messages }}"
    assert read(tmp_path, "tool_use").template == "models"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "no json",
        "[" * 100_000,
        '{"model_type": 7}',
        '{"model_type": "' + "x" * 100 + '"}',
        '{"text_config": 1}',
    ],
)
def test_an_invalid_config_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert read(tmp_path).kinds == frozenset()


def test_files_are_read_up_to_a_limit_and_pipes_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3", "more": "x" * MAX_CONFIG_BYTES}))
    os.mkfifo(tmp_path / "tokenizer_config.json")
    os.mkfifo(tmp_path / "chat_template.jinja")
    files = read(tmp_path)
    assert (files.kinds, files.template, files.has_tokens(["<a>"])) == (frozenset(), None, False)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", json.dumps({"added_tokens": [{"content": "<｜a｜>"}]})),
        ("tokenizer_config.json", json.dumps({"added": "<｜a｜>"}, ensure_ascii=False)),
        ("tekken.json", json.dumps([{"token_str": "<｜a｜>"}])),
        ("tokenizer.model.v3", "binary <｜a｜> pieces"),
    ],
)
def test_tokens_are_found_in_the_files_of_any_tokenizer(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    files = ModelFiles("m", tokenizer=tmp_path)
    assert files.has_tokens(["<｜a｜>"])
    assert not files.has_tokens(["<｜a｜>", "<b>"])


def test_mistrals_own_format_is_recognized(tmp_path: Path) -> None:
    assert read(write(tmp_path, params={"dim": 4096})).kinds == frozenset({"mistral"})


def test_a_model_is_found_in_the_cache_of_the_hub(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--model"
    snapshot = write(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc\n")
    assert find_model_folder("org/model", None, tmp_path) == snapshot
    assert find_model_folder("org/model", "abc", tmp_path) == snapshot
    assert find_model_folder(str(snapshot), None, tmp_path) == snapshot
    for name, revision in (
        ("org/other", None),
        ("org/model", "v2"),
        ("s3://b/model", None),
        ("x" * 5000, None),
        ("a\0", None),
    ):
        assert find_model_folder(name, revision, tmp_path) is None


def test_a_model_written_by_sentence_transformers_is_a_pooling_model(tmp_path: Path) -> None:
    assert not embeds(tmp_path)
    assert not embeds(None)
    assert embeds(write(tmp_path, modules=[]))
