"""The startup report about vLLM, and a start from a folder that is not part of the image."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from overlay.content import START_FILE, collect_files, write_files
from tests.vllm.server import ROOT, Server, environment


@pytest.mark.gate
def test_the_report_names_the_version_and_the_variables_that_are_known(canned: Server) -> None:
    report = json.loads(canned.wait_for("/startup"))
    assert report["vllmVersion"].startswith("0.")
    variables = report["variables"]
    assert variables["LOAD_FORMAT"] == variables["MAX_MODEL_LEN"] == "flag"
    assert variables["MODEL_NAME"] == "alias"
    assert variables["FOREBAY_AUTH"] == "forebay"
    assert not {"PATH", "HOME"} & variables.keys(), "vLLM and the server do not know these"


def test_an_unsupported_vllm_stops_the_start_with_a_reason(serve: Callable[..., Server], tmp_path: Path) -> None:
    old = tmp_path / "old/vllm-0.25.0.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.25.0\n")
    path = os.pathsep.join(filter(None, (str(old.parent), os.environ.get("PYTHONPATH"))))
    failure = serve(PYTHONPATH=path).failure()
    assert (failure["reason"], failure["status"]) == ("UnsupportedVLLM", "78")
    assert "vLLM 0.25.0, and the server needs 0.26 or later" in failure["message"]


def test_the_start_file_finds_its_server_and_vllm(vllm_python: str, tmp_path: Path) -> None:
    """`check` reads vLLM's parser and the plugins, which vLLM finds by the metadata of the folder."""
    write_files(tmp_path / "server", collect_files(ROOT, []))
    command = [vllm_python, str(tmp_path / "server" / START_FILE), "check", "--json"]
    env = environment(tmp_path, {"MODEL_NAME": "acme/none", "VLLM_TARGET_DEVICE": "cpu"})
    env.pop("PYTHONPATH", None)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    planned = json.loads(done.stdout)
    assert "forebay" in planned["variables"]["VLLM_PLUGINS"].split(",")
    assert planned["model"] == "acme/none"
