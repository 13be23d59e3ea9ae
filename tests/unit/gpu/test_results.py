"""Results are whole after each measurement, and make a table."""

import json
import time
from pathlib import Path

import pytest

from tests.gpu.record import Record, shown
from tests.gpu.table import markdown


def test_a_truncated_part_keeps_its_measurements(tmp_path: Path) -> None:
    record = Record("fit", {"began": "1", "vLLM": "0.32.0"}, tmp_path / "fit.json")
    record.put({"model": "1B", "weights, MiB": 2048.0})
    kept = json.loads(record.path.read_text())
    assert kept["state"] == "unfinished"
    assert kept["measurements"] == [{"model": "1B", "weights, MiB": 2048.0}]


def test_measurements_with_the_same_columns_make_one_table(tmp_path: Path) -> None:
    record = Record("drain", {"began": "1", "vLLM": "0.32.0", "driver": ""}, tmp_path / "drain.json")
    record.put({"streams": 8, "slowest, ms": 3.14159})
    record.put({"streams": 16, "slowest, ms": 1234.5})
    record.put({"exit status": "0"})
    record.save("complete")
    lines = markdown(tmp_path).splitlines()
    assert lines[0] == "### drain"
    assert lines[2].startswith("complete after 0")
    assert "vLLM 0.32.0" in lines[2]
    assert "driver" not in lines[2]
    assert lines[4:] == [
        "| streams | slowest, ms |",
        "| --- | --- |",
        "| 8 | 3.14 |",
        "| 16 | 1,234.5 |",
        "",
        "| exit status |",
        "| --- |",
        "| 0 |",
    ]


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (0.0123, "0.0123"), (99.0, "99"), (-2.5, "-2.5"), ("a", "a")])
def test_numbers_are_short(value: str | float, text: str) -> None:
    assert shown(value) == text


def test_the_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    record = Record("fit", {}, tmp_path / "fit.json", began=time.monotonic() - 5)
    record.save("complete")
    assert [path.name for path in tmp_path.iterdir()] == ["fit.json"]
    assert json.loads(record.path.read_text())["seconds"] >= 5
