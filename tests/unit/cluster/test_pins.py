"""A build result is stored under a key that changes only with its inputs."""

import os
from pathlib import Path

import pytest

from cluster import pins, tools


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "go.mod").write_text(
        "module m\n\ngo 1.26.6\n\nrequire (\n\texample.org/a v1.2.3\n\texample.org/ab v9.9.9\n)\n"
    )
    monkeypatch.setattr(pins, "GO_MODULE", tmp_path)
    return tmp_path


def test_versions_are_read_from_go_mod(module: Path) -> None:
    assert pins.go_version("example.org/a") == "v1.2.3"
    assert pins.go_version("go") == "1.26.6"
    with pytest.raises(KeyError, match=r"does not name example\.org/c"):
        pins.go_version("example.org/c")


def key_of(folder: Path) -> str:
    return pins.key(["how"], pins.files(folder), folder)


def test_a_changed_pin_changes_the_key(module: Path) -> None:
    before = key_of(module)
    mod = module / "go.mod"
    mod.write_text(mod.read_text().replace("v1.2.3", "v1.2.4"))
    assert key_of(module) != before


def test_a_new_name_or_file_mode_changes_the_key(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("x")
    file.chmod(0o644)
    keys = {key_of(tmp_path)}
    file.chmod(0o755)
    keys.add(key_of(tmp_path))
    file.rename(tmp_path / "b")
    keys.add(key_of(tmp_path))
    assert len(keys) == 3


def test_timestamps_and_tool_caches_do_not_change_the_key(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    before = key_of(tmp_path)
    os.utime(tmp_path / "a", (0, 0))
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("")
    (tmp_path / "x.egg-info").mkdir()
    (tmp_path / "x.egg-info" / "PKG-INFO").write_text("")
    assert key_of(tmp_path) == before


def test_texts_are_kept_apart_in_the_key() -> None:
    assert pins.key(["ab", "c"]) != pins.key(["a", "bc"])


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.delenv("FOREBAY_CACHE", raising=False)
    assert pins.cache() == Path("/x/forebay")
    monkeypatch.setenv("FOREBAY_CACHE", "/y")
    assert pins.cache() == Path("/y")


@pytest.mark.parametrize(
    ("version", "least", "expected"),
    [
        ("go1.26.6", "1.26.6", True),
        ("go1.26.10", "1.26.9", True),
        ("go1.27", "1.26.6", True),
        ("go1.26", "1.26.6", False),
        ("go1.19.8", "1.26.6", False),
        ("devel +abc", "1.26.6", False),
    ],
)
def test_go_on_path_is_used_only_when_it_is_new_enough(version: str, least: str, expected: bool) -> None:
    assert tools.new_enough(version, least) is expected


def test_programs_report_the_pinned_versions_on_any_date() -> None:
    flags = tools.linker_flags()
    assert f"-X k8s.io/client-go/pkg/version.gitVersion={pins.go_version('k8s.io/kubernetes')}" in flags
    assert "buildDate" not in flags
