"""The server of the checkout is there for a Python that has not installed it, with its plugins."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.gpu import interpreter

PLUGINS = """
import json, forebay_server
from importlib.metadata import entry_points
groups = sorted(group for group in entry_points().groups if group.startswith("vllm."))
print(json.dumps([forebay_server.__file__, {group: [e.value for e in entry_points(group=group)] for group in groups}]))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(interpreter, "FOLDER", tmp_path / "gpu")
    return tmp_path / "gpu"


def test_vllm_finds_the_plugins_of_the_checkout(folder: Path) -> None:
    path = interpreter.install_server(Path(sys.executable))
    env = {**os.environ, "PYTHONPATH": str(path)}
    printed = subprocess.run([sys.executable, "-S", "-c", PLUGINS], env=env, capture_output=True, text=True, check=True)
    source, groups = json.loads(printed.stdout)
    assert Path(source).is_relative_to(folder)
    assert groups == {
        "vllm.endpoint_plugins": ["forebay_server.plugin:ForebayPlugin"],
        "vllm.general_plugins": ["forebay_server.lifecycle.journal:listen"],
        "vllm.stat_logger_plugins": ["forebay_server.engine_steps:StepListener"],
    }


def test_a_python_without_vllm_is_rejected_with_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    monkeypatch.setenv("FOREBAY_VLLM_PYTHON", str(bare))
    with pytest.raises(interpreter.NoInterpreter, match=r"has no vLLM\. Set FOREBAY_VLLM_PYTHON"):
        interpreter.with_vllm(None)


def test_an_empty_folder_of_wheels_is_rejected(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "no-wheel.zip", "w"), pytest.raises(interpreter.NoInterpreter, match="holds none"):
        interpreter.with_vllm(tmp_path)
