"""An image archive holds one program and its configuration for an engine."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

from cluster import archive


def made(tmp_path: Path) -> bytes:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o700)
    archive.write(tmp_path / "pause.tar", "registry.example/pause:3", program)
    return (tmp_path / "pause.tar").read_bytes()


def read(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {info.name: file.read() for info in tar if (file := tar.extractfile(info))}


def test_the_image_has_its_name_and_runs_its_program(tmp_path: Path) -> None:
    files = read(made(tmp_path))
    (manifest,) = json.loads(files["manifest.json"])
    config = json.loads(files[manifest["Config"]])
    assert manifest["RepoTags"] == ["registry.example/pause:3"]
    assert config["config"]["Entrypoint"] == ["/usr/local/bin/pause"]
    assert manifest["Config"] == hashlib.sha256(files[manifest["Config"]]).hexdigest() + ".json"
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(files["layer.tar"]).hexdigest()]


def test_the_program_belongs_to_root_and_everyone_may_run_it(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(read(made(tmp_path))["layer.tar"])) as layer:
        entries = {info.name: info for info in layer}
    assert list(entries) == ["usr", "usr/local", "usr/local/bin", "usr/local/bin/pause"]
    assert {info.mode for info in entries.values()} == {0o755}
    assert {info.uid for info in entries.values()} == {0}


def test_the_same_program_gives_the_same_archive(tmp_path: Path) -> None:
    assert made(tmp_path) == made(tmp_path)
