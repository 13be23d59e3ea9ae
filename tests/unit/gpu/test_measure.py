"""The measurements of a part are stored even if it fails."""

import json
import time
from pathlib import Path

import pytest

from tests.gpu.measure import run
from tests.gpu.plan import CPU, Run
from tests.gpu.record import Record


def hangs(_: Run, record: Record) -> None:
    record.put({"figure": 1.0})
    time.sleep(30)


def fails(_: Run, record: Record) -> None:
    record.put({"figure": 1.0})
    raise ValueError("no such GPU")


def ends(_: Run, record: Record) -> None:
    record.put({"figure": 1.0})


@pytest.mark.parametrize(
    ("part", "state"), [(hangs, "cut after 0.2 s"), (fails, "failed: ValueError: no such GPU"), (ends, "complete")]
)
def test_measurements_are_kept(tmp_path: Path, part: object, state: str) -> None:
    assert callable(part)
    record = Record("fit", {"began": "1"}, tmp_path / "fit.json")
    began = time.monotonic()
    assert run(part, Run(CPU, tmp_path, tmp_path), record, 0.2) == state
    assert time.monotonic() - began < 10
    kept = json.loads(record.path.read_text())
    assert (kept["state"], kept["measurements"]) == (state, [{"figure": 1.0}])
