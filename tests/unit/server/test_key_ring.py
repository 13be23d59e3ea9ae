"""The keys of a mounted Secret."""

import os
from pathlib import Path

import pytest

from forebay_server.failure import StartError
from forebay_server.serving.key_ring import RECHECK_SECONDS, KeyRing, has_keys

FIRST = "first-key-0123456789"
SECOND = "second-key-0123456789"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def ring(folder: Path, keys: dict[str, str], clock: Clock | None = None) -> KeyRing:
    for name, key in keys.items():
        (folder / name).write_text(key)
    return KeyRing(folder, clock or Clock())


def test_every_file_is_one_valid_key(tmp_path: Path) -> None:
    keys = ring(tmp_path, {"a": FIRST, "b": f"{SECOND}\n"})
    assert keys.accepts(FIRST)
    assert keys.accepts(SECOND)
    assert not keys.accepts(FIRST + "x")
    assert not keys.accepts("")
    assert not keys.accepts("ключ")


@pytest.mark.parametrize(
    ("keys", "message"),
    [({}, "There is no key in"), ({"a": "short"}, "has fewer than 16"), ({"a": FIRST, "b": "  "}, "has fewer than 16")],
)
def test_a_start_without_a_valid_key_is_rejected(tmp_path: Path, keys: dict[str, str], message: str) -> None:
    with pytest.raises(StartError, match=message) as error:
        ring(tmp_path, keys)
    assert error.value.failure.reason == "InvalidKeys"
    assert "short" not in error.value.failure.line()


def test_a_missing_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot be read"):
        KeyRing(tmp_path / "none")


def test_a_changed_secret_takes_effect_without_a_restart(tmp_path: Path) -> None:
    """As the kubelet does it: the folder behind the link ..data is swapped."""
    for version, key in (("..1", FIRST), ("..2", SECOND)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text(key)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "key").symlink_to("..data/key")
    clock = Clock()
    keys = KeyRing(tmp_path, clock)
    assert keys.accepts(FIRST)
    (tmp_path / "..new").symlink_to("..2")
    os.rename(tmp_path / "..new", tmp_path / "..data")
    assert keys.accepts(FIRST), "the folder is read again only after some time"
    clock.now += RECHECK_SECONDS
    assert keys.accepts(SECOND)
    assert not keys.accepts(FIRST)


def test_a_short_key_that_is_added_later_is_not_valid(tmp_path: Path) -> None:
    clock = Clock()
    keys = ring(tmp_path, {"a": FIRST}, clock)
    (tmp_path / "b").write_text("short")
    clock.now += RECHECK_SECONDS
    assert not keys.accepts("short")
    assert keys.accepts(FIRST)


def test_no_key_is_valid_while_the_folder_cannot_be_read(tmp_path: Path) -> None:
    clock = Clock()
    folder = tmp_path / "keys"
    folder.mkdir()
    keys = ring(folder, {"a": FIRST}, clock)
    folder.rename(tmp_path / "away")
    clock.now += RECHECK_SECONDS
    assert not keys.accepts(FIRST)
    (tmp_path / "away").rename(folder)
    clock.now += RECHECK_SECONDS
    assert keys.accepts(FIRST)


def test_a_secret_that_is_optional_may_be_empty_or_missing(tmp_path: Path) -> None:
    assert not has_keys(tmp_path / "missing")
    (tmp_path / "..data").mkdir()
    assert not has_keys(tmp_path)
    (tmp_path / "token").write_text("t" * 16)
    assert has_keys(tmp_path)
