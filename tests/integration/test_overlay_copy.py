"""The program of the overlay image that an init container runs, compiled as in the image."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cluster.pins import ROOT
from overlay.content import START_FILE, collect_files, write_files
from overlay.image import compile_copy_program
from overlay.oci_archive import this_architecture


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the overlay image's files."""
    root = tmp_path_factory.mktemp("image")
    (program,) = compile_copy_program([this_architecture()]).values()
    (root / "copy").write_bytes(program)
    (root / "copy").chmod(0o755)
    write_files(root / "server", collect_files(ROOT, [Path(sys.executable)]))
    return root


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_first_and_the_second_copy_are_complete_and_readable_for_all(image: Path, tmp_path: Path) -> None:
    for _ in range(2):
        subprocess.run([image / "copy", tmp_path], check=True, umask=0o077)
        assert read_all(tmp_path / "server") == read_all(image / "server")
        paths = [tmp_path / "server", *(tmp_path / "server").rglob("*")]
        assert {path.stat().st_mode & 0o777 for path in paths} == {0o755, 0o644}
    command = [sys.executable, str(tmp_path / "server" / START_FILE), "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("forebay-server ")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to become another user")
def test_any_user_of_group_0_can_copy(image: Path) -> None:
    """On OpenShift, the volume belongs to root's group, and the user ID comes from the range of the namespace."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        Path(folder).chmod(0o755)
        copied, volume = Path(folder) / "image", Path(folder) / "volume"
        shutil.copytree(image, copied)
        copied.chmod(0o755)
        volume.mkdir()
        os.chown(volume, 0, 0)
        volume.chmod(0o2775)
        subprocess.run([copied / "copy", volume], check=True, user=1000680000, group=0, extra_groups=[])
        assert read_all(volume / "server") == read_all(image / "server")


def test_a_failed_copy_says_why(image: Path, tmp_path: Path) -> None:
    (tmp_path / "server").write_text("in the way")
    done = subprocess.run([image / "copy", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"the server could not be copied to {tmp_path}: ")
    assert "not a directory" in done.stderr
