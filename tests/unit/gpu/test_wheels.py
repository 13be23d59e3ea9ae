"""Wheels in pieces are joined, or the missing piece is reported."""

import zipfile
from pathlib import Path

import pytest

from tests.gpu.wheels import BrokenWheel, omit_files, split, whole_wheels

NAME = "thing-1-py3-none-any.whl"


def wheel(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / NAME
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thing/__init__.py", "x = 1\n" * 200)
        archive.writestr("thing/big.so", b"\0" * 5000)
        archive.writestr("thing-1.dist-info/RECORD", "".join(f"{name},,\n" for name in archive.namelist()))
    return path


def test_pieces_in_several_folders_are_joined(tmp_path: Path) -> None:
    whole = wheel(tmp_path / "wheels")
    content = whole.read_bytes()
    pieces = split(whole, 3000)
    assert len(pieces) > 1
    assert max(piece.stat().st_size for piece in pieces) == 3000
    second = tmp_path / "wheels/later"
    second.mkdir()
    pieces[-1].rename(second / pieces[-1].name)
    (joined,) = whole_wheels(tmp_path / "wheels", tmp_path / "joined")
    assert (joined.name, joined.read_bytes()) == (NAME, content)


def test_a_small_wheel_stays_whole(tmp_path: Path) -> None:
    whole = wheel(tmp_path / "wheels")
    assert split(whole, 1 << 20) == [whole]
    assert whole_wheels(tmp_path / "wheels", tmp_path / "joined") == [whole]


@pytest.mark.parametrize(("lost", "message"), [(0, "piece 00 is missing"), (-1, "the last piece is missing")])
def test_a_lost_piece_is_named(tmp_path: Path, lost: int, message: str) -> None:
    split(wheel(tmp_path / "wheels"), 3000)[lost].unlink()
    with pytest.raises(BrokenWheel, match=message):
        whole_wheels(tmp_path / "wheels", tmp_path / "joined")


def test_omitted_files_are_not_listed_either(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    omit_files(path, ("thing/*.so",))
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["thing/__init__.py", "thing-1.dist-info/RECORD"]
        assert b"big.so" not in archive.read("thing-1.dist-info/RECORD")
