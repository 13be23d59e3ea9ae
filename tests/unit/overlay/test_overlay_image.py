"""The overlay image: its digest depends on server/ and protocol/ alone, and its files run beside any vLLM."""

import ast
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from cluster import pins
from cluster.pins import ROOT
from overlay.byte_code import compile_sources, read_version
from overlay.content import PROJECTS, START_FILE, build_metadata, collect_files, write_files
from overlay.image import build_image, key
from overlay.oci_archive import this_architecture

PYTHON = Path(sys.executable)
PROGRAMS = {"amd64": b"a program", "arm64": b"another"}
TAG = sys.implementation.cache_tag


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the inputs of the image, and of another file."""
    for project in (*PROJECTS, "kube"):
        skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / project, tmp_path / project, ignore=skipped)
    return tmp_path


def append(path: str) -> Callable[[Path], object]:
    def change(checkout: Path) -> None:
        with (checkout / path).open("a") as file:
            file.write("\n# changed\n")

    return change


def touch_all(checkout: Path) -> None:
    """Give all files another time and mode, as another clone has."""
    for path in checkout.rglob("*"):
        os.utime(path, (0, 0))
        path.chmod(0o700)


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        (lambda _: None, True),
        (touch_all, True),
        (append("kube/pyproject.toml"), True),
        (append("server/src/forebay_server/app.py"), False),
        (append("server/src/forebay_start.py"), False),
        (append("protocol/src/forebay_protocol/pod.py"), False),
    ],
    ids=["nothing", "times and modes", "another part", "the server", "the start file", "the protocol"],
)
def test_only_a_change_of_the_server_changes_the_digest(
    checkout: Path, change: Callable[[Path], object], stays: bool
) -> None:
    before = build_image(checkout, [PYTHON], PROGRAMS).digest
    change(checkout)
    assert (build_image(checkout, [PYTHON], PROGRAMS).digest == before) is stays


def test_a_release_names_the_image_by_the_version_of_the_server() -> None:
    """So a release that leaves server/ alone leaves the pods' template alone."""
    values = yaml.safe_load((ROOT / "charts/forebay/values.yaml").read_text())
    versions = {read_metadata_version(ROOT / project) for project in PROJECTS}
    assert {values["server"]["image"]["tag"]} == versions


def read_metadata_version(project: Path) -> str:
    (head,) = (text.decode() for name, text in build_metadata(project).items() if name.endswith("METADATA"))
    return next(line.partition(": ")[2] for line in head.splitlines() if line.startswith("Version: "))


def test_the_archive_holds_the_image_for_docker_and_for_registries(tmp_path: Path) -> None:
    image = build_image(ROOT, [PYTHON], PROGRAMS)
    image.write(tmp_path / "image.tar", "registry.example/forebay-server:1")
    with tarfile.open(tmp_path / "image.tar") as tar:
        blobs = {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}  # type: ignore[union-attr]
    (top,) = json.loads(blobs["index.json"])["manifests"]
    assert top["digest"] == image.digest
    index = json.loads(read(blobs, top["digest"]))
    assert [each["platform"]["architecture"] for each in index["manifests"]] == ["amd64", "arm64"]
    for described in index["manifests"]:
        manifest = json.loads(read(blobs, described["digest"]))
        config = json.loads(read(blobs, manifest["config"]["digest"]))
        (layer,) = manifest["layers"]
        assert config["rootfs"]["diff_ids"] == [layer["digest"]]
        assert len(read(blobs, layer["digest"])) == layer["size"]
    (docker,) = json.loads(blobs["manifest.json"])
    assert docker["RepoTags"] == ["registry.example/forebay-server:1"]
    with tarfile.open(fileobj=io.BytesIO(blobs[docker["Layers"][0]])) as layer:
        entries = {entry.name: entry for entry in layer}
        program = layer.extractfile("copy")
        assert program
        assert program.read() == PROGRAMS[this_architecture()]
    assert entries["copy"].mode == 0o755
    assert {entry.uid for entry in entries.values()} == {entry.mtime for entry in entries.values()} == {0}
    assert all(entry.mode & 0o444 == 0o444 for entry in entries.values()), "any user may read it"
    assert f"server/{START_FILE}" in entries


def read(blobs: dict[str, bytes], digest: str) -> bytes:
    return blobs[f"blobs/{digest.replace(':', '/')}"]


def test_python_loads_the_byte_code_whatever_the_time_of_the_source(tmp_path: Path) -> None:
    """The source of the test differs from the byte code, which an unchecked hash ignores."""
    sources = {"package/module.py": b"ANSWER = 'of the byte code'\n", "package/template.jinja": b"{{ no python }}"}
    compiled = compile_sources(sources, [PYTHON])
    assert list(compiled) == [f"package/__pycache__/module.{TAG}.pyc"]
    write_files(tmp_path, {**sources, **compiled, "package/module.py": b"ANSWER = 'of the source'\n"})
    code = "import package.module; print(package.module.ANSWER)"
    printed = subprocess.run([PYTHON, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert printed == "of the byte code\n"


def test_an_interpreter_that_does_not_run_has_no_version(tmp_path: Path) -> None:
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    assert read_version(shim) == ""
    assert read_version(PYTHON) == ".".join(map(str, sys.version_info[:3]))


PROBE = """
import importlib.metadata, subprocess, sys
import forebay_server
names = [each.value for each in importlib.metadata.entry_points(group="vllm.endpoint_plugins")]
child = "import forebay_server; print(forebay_server.__file__)"
print(forebay_server.__file__, subprocess.check_output([sys.executable, "-c", child], text=True).strip(), *names)
"""
"""It prints where this process and a child find the server, and the plugins that vLLM would load."""


@pytest.mark.parametrize("options", [(), ("-P",)], ids=["", "with a safe path"])
def test_the_server_of_the_overlay_replaces_that_of_the_image(tmp_path: Path, options: tuple[str, ...]) -> None:
    overlay, image = tmp_path / "overlay", tmp_path / "image"
    write_files(overlay, collect_files(ROOT, []))
    old = {"forebay_server-0.0.1.dist-info/entry_points.txt": b"[vllm.endpoint_plugins]\nforebay = old:Plugin\n"}
    head = b"Metadata-Version: 2.1\nName: forebay-server\nVersion: 0.0.1\n"
    write_files(image, {"forebay_server/__init__.py": b"", "forebay_server-0.0.1.dist-info/METADATA": head, **old})
    (overlay / "forebay_server/__main__.py").write_text(f"def main():\n    exec({PROBE!r}, {{}})\n")
    command = [str(PYTHON), *options, str(overlay / START_FILE)]
    env = {"PYTHONPATH": f"{image}{os.pathsep}{overlay}", "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    mine = str(overlay / "forebay_server/__init__.py")
    assert done.stdout.split() == [mine, mine, "forebay_server.plugin:ForebayPlugin"]


def test_the_start_file_starts_the_server(tmp_path: Path) -> None:
    write_files(tmp_path, collect_files(ROOT, []))
    command = [str(PYTHON), "-S", str(tmp_path / START_FILE), "--version"]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    assert done.stdout == f"forebay-server {read_metadata_version(ROOT / 'server')}\n", done.stderr


@pytest.fixture
def start() -> ModuleType:
    """The start file as a module."""
    found = spec_from_file_location("start", ROOT / "server/src" / START_FILE)
    assert found
    assert found.loader
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_an_old_python_is_named_in_the_termination_log(
    start: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ast.parse((ROOT / "server/src" / START_FILE).read_text(), feature_version=(3, 7))
    log = tmp_path / "log"
    monkeypatch.setenv("FOREBAY_TERMINATION_LOG", str(log))
    start.refuse_old_python()
    assert not log.exists()
    monkeypatch.setattr(start, "OLDEST_PYTHON", (99, 0))
    with pytest.raises(SystemExit) as ended:
        start.refuse_old_python()
    assert ended.value.code == 78
    failure = json.loads(log.read_text())
    assert failure["reason"] == "PythonTooOld"
    assert "the server needs 99.0 or later" in failure["message"]


def test_the_key_of_the_cluster_follows_the_image(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    monkeypatch.setattr(pins, "ROOT", checkout)
    before = key()
    append("kube/pyproject.toml")(checkout)
    assert key() == before
    append("server/src/forebay_server/app.py")(checkout)
    assert key() != before
