"""tests/gpu, the program for a machine with a GPU, works: every part on the CPU, with tiny models."""

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.wheels import split
from tests.vllm.server import ROOT

Row = dict[str, Any]


@pytest.fixture(scope="module")
def results(vllm_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that one run of all parts wrote, in an environment with a wheel that came in pieces."""
    folder = tmp_path_factory.mktemp("gpu")
    travelled_wheel(folder / "wheels")
    command = [vllm_python, "-m", "tests.gpu", "--device", "cpu", "--out", str(folder / "results")]
    command += ["--wheels", str(folder / "wheels")]
    env = {**os.environ, "FOREBAY_CACHE": str(folder / "cache")}
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1200, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-5000:]
    return folder / "results"


def travelled_wheel(folder: Path) -> None:
    """A package of no use, in pieces: what matters is that vLLM is found behind it."""
    folder.mkdir()
    wheel = folder / "travelled-1-py3-none-any.whl"
    files = {
        "travelled.py": "",
        "travelled-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: travelled\nVersion: 1\n",
        "travelled-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr("travelled-1.dist-info/RECORD", "".join(f"{name},,\n" for name in files))
    assert len(split(wheel, 300)) > 1


def rows(results: Path, part: str) -> list[Row]:
    """The measurements of a part, which must be complete."""
    content = json.loads((results / f"{part}.json").read_text())
    assert content["state"] == "complete"
    assert content["seconds"] < 240
    measured: list[Row] = content["measurements"]
    return measured


def test_a_start_is_measured_by_step(results: Path) -> None:
    composed, plain = rows(results, "start")
    assert (composed["server"], plain["server"]) == ("composed", "plain")
    steps = [composed[f"{step}, s"] for step in ("Importing", "LoadingWeights", "WarmingUp")]
    assert 0 < sum(steps) < composed["exec to first token, s"]
    assert plain["exec to first token, s"] > 0


def test_streams_are_compared_with_plain_vllm(results: Path) -> None:
    measured = rows(results, "overhead")
    assert {row["clients"] for row in measured} == {1, 4}
    assert all(row["plain"] > 0 and row["composed"] > 0 for row in measured if row["figure"] == "tokens/s")


def test_the_engine_sleeps_at_both_levels_and_answers_as_before(results: Path) -> None:
    measured = rows(results, "sleep")
    assert [row["level"] for row in measured] == [1, 1, 2, 2]
    assert {row["answer asleep"] for row in measured} == {"503"}
    assert {row["answer after"] for row in measured} == {"200, the same text"}


def test_the_estimate_is_compared_with_the_memory_of_vllm(results: Path) -> None:
    measured = rows(results, "fit")
    assert len(measured) == 2
    for row in measured:
        assert row["KV cache of 1,024 tokens estimated, MiB"] == pytest.approx(row["1,024 tokens took, MiB"], rel=0.05)


def test_no_stream_is_cut_and_a_stopped_engine_is_detected(results: Path) -> None:
    under_load, stopped, drained = rows(results, "drain")
    assert (under_load["livez answers"], under_load["readyz answers"], under_load["streams cut"]) == ("200",) * 2 + (
        "none",
    )
    assert 3.5 < stopped["stopped until livez 503, s"] < 10
    assert stopped["the request"] == "ended"
    assert (drained["answers to new requests"], drained["streams cut"], drained["exit status"]) == ("503", "none", "0")


def test_the_results_make_a_table(results: Path, vllm_python: str) -> None:
    command = [vllm_python, "-m", "tests.gpu", "--table", str(results)]
    table = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line for line in table.splitlines() if line.startswith("#")] == [
        f"### {part}" for part in ("start", "overhead", "sleep", "fit", "drain")
    ]
