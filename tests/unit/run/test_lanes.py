"""Stages run in lanes; a failure where it gates ends all, elsewhere only what needs it."""

import os
import sys
import time
from pathlib import Path

import pytest

from tests.run.lanes import Run
from tests.run.stages import STAGES, Stage, choose

PASSES = (sys.executable, "-c", "")
FAILS = (sys.executable, "-c", "print('last words'); raise SystemExit(3)")


def run(folder: Path, *stages: Stage) -> dict[str, tuple[int, list[str]]]:
    """Run the stages; the passed checks and the reasons of failures by stage."""
    running = Run(stages, folder, os.environ)
    running.wait()
    return {each.name: (each.passed, [failure.why for failure in each.failures]) for each in running.results}


def test_a_stage_waits_for_its_dependencies_in_another_lane(tmp_path: Path) -> None:
    made = tmp_path / "made"
    makes = (sys.executable, "-c", f"import time; time.sleep(0.3); open({str(made)!r}, 'w').close()")
    uses = (sys.executable, "-c", f"open({str(made)!r}).close()")
    found = run(tmp_path, Stage("uses", uses, lane="a", needs=("makes",)), Stage("makes", makes, lane="b"))
    assert found == {"uses": (1, []), "makes": (1, [])}


def test_stages_that_depend_on_a_failed_one_are_skipped_and_others_run(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        Stage("fails", FAILS),
        Stage("needs it", PASSES, needs=("fails",)),
        Stage("goes on", PASSES),
        Stage("cleans up", PASSES, cleans_up=True),
    )
    assert found["needs it"] == (0, ["not run: fails failed"])
    assert found["goes on"] == (1, [])
    assert found["cleans up"] == (0, [])
    assert "it ended with 3" in found["fails"][1][0]


def test_a_stage_runs_after_another_even_if_that_fails_or_is_not_selected(tmp_path: Path) -> None:
    late = (
        sys.executable,
        "-c",
        f"import time; time.sleep(0.3); open({str(tmp_path / 'late')!r}, 'w'); raise SystemExit(1)",
    )
    uses = (sys.executable, "-c", f"open({str(tmp_path / 'late')!r}).close()")
    found = run(
        tmp_path, Stage("comes after", uses, lane="a", after=("late", "not chosen")), Stage("late", late, lane="b")
    )
    assert found["comes after"] == (1, [])
    assert found["late"][0] == 0


def test_a_gating_failure_ends_parallel_stages_and_cleans_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began, runs = time.monotonic(), tmp_path / "runs"
    long = (sys.executable, "-c", f"open({str(runs)!r}, 'w').close(); import time; time.sleep(600)")
    waits = f"import os, time\nwhile not os.path.exists({str(runs)!r}): time.sleep(0.01)\n"
    found = run(
        tmp_path,
        Stage("lint", (sys.executable, "-c", waits + FAILS[2]), gates=True),
        Stage("later", PASSES),
        Stage("long", long, lane="b"),
        Stage("cleans up", (sys.executable, "-c", f"open({str(tmp_path / 'clean')!r}, 'w')"), lane="b", cleans_up=True),
    )
    assert time.monotonic() - began < 100
    assert found["later"] == (0, ["not run: lint failed"])
    assert found["long"] == (0, ["lint failed"])
    assert (tmp_path / "clean").exists()
    assert "lint | last words" in capsys.readouterr().out


def test_selected_stages_include_their_dependencies_and_cleanup() -> None:
    names = [stage.name for stage in choose(("rights",))]
    assert names == ["integration", "rights", "tools"]
    assert "cluster-down" in [stage.name for stage in choose(("e2e",))]
    with pytest.raises(KeyError):
        choose(("nothing",))


def test_every_dependency_is_a_stage_and_is_earlier_in_its_lane() -> None:
    seen: dict[str, Stage] = {}
    for stage in STAGES:
        assert stage.name not in seen
        assert all(seen[need].lane == stage.lane for need in stage.needs if need in seen)
        seen[stage.name] = stage
    assert {name for stage in STAGES for name in (*stage.needs, *stage.after)} <= seen.keys()
