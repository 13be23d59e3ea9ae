"""A step reports its result, and leaves no incomplete result."""

import os
from pathlib import Path

import pytest

from cluster import docker, kind, steps
from cluster.steps import StepFailed, built, elapsed, step, wait_until


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREBAY_CACHE", str(tmp_path))
    return tmp_path


def test_a_step_reports_its_beginning_and_end(capsys: pytest.CaptureFixture[str]) -> None:
    with step("doing a thing") as doing:
        doing.run(["true"])
    began, ended = capsys.readouterr().err.splitlines()
    assert began == "==> doing a thing"
    assert ended.startswith("    doing a thing: done in ")


def test_a_failure_reports_step_reason_remedy_and_log(cache: Path) -> None:
    with pytest.raises(StepFailed) as failed, step("doing a thing", "try harder") as doing:
        doing.run(["sh", "-c", "echo the disk is full; exit 3"])
    text = str(failed.value)
    assert text.startswith("failed: doing a thing\n")
    assert "sh ended with 3" in text
    assert "the disk is full" in text
    assert "try: try harder" in text
    assert f"log: {cache}/logs/doing-a-thing.log" in text


def test_a_missing_program_is_named() -> None:
    with pytest.raises(StepFailed, match="no-such-program can't be run"), step("doing a thing") as doing:
        doing.run(["no-such-program"])


def test_a_long_step_reports_its_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "HEARTBEAT", 0.01)
    with step("doing a thing") as doing:
        doing.run(["sh", "-c", "echo half of it; sleep 0.1"])
    assert "half of it" in capsys.readouterr().err


def test_the_last_lines_of_a_log_omit_colours_and_overwritten_text(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\n\x1b[31m10%\r50%\r\n\n")
    assert steps.last_lines(log, 1) == "50%"
    assert steps.last_lines(log, 9) == "first\n10%\n50%"


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (9.96, "10.0 s"), (45.4, "45 s"), (185.9, "3m05s")])
def test_durations_are_formatted_by_their_size(seconds: float, text: str) -> None:
    assert elapsed(seconds) == text


def test_a_finished_build_is_not_repeated(tmp_path: Path) -> None:
    target = tmp_path / "built" / "key"
    built(target, lambda folder: (folder / "a").touch())
    built(target, lambda _: pytest.fail("built again"))
    assert [path.name for path in target.iterdir()] == ["a"]


def test_an_interrupted_build_is_removed_and_repeated(tmp_path: Path) -> None:
    target = tmp_path / "built" / "key"

    def interrupted(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        built(target, interrupted)
    assert not target.exists()
    built(target, lambda folder: (folder / "whole").touch())
    assert os.listdir(target.parent) == ["key"]
    assert os.listdir(target) == ["whole"]


def test_waiting_returns_the_awaited_value() -> None:
    with pytest.raises(StepFailed, match="the thing did not happen within"):
        wait_until(lambda: False, "the thing", 0)


@pytest.mark.parametrize("content", ["", "not a number", "4194305"])
def test_a_pid_file_without_a_process_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "pid").write_text(content)
    assert docker.running(tmp_path / "pid", "dockerd") is None


def test_a_process_that_reuses_the_pid_of_a_dead_engine_is_not_the_engine(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(str(os.getpid()))
    assert docker.running(tmp_path / "pid", "dockerd") is None
    own = Path("/proc/self/comm").read_text().strip()
    assert docker.running(tmp_path / "pid", own) == os.getpid()


@pytest.mark.parametrize("content", [None, "", "{"])
def test_a_cluster_without_a_complete_record_is_incomplete(content: str | None) -> None:
    if content is not None:
        kind.record_path("forebay").write_text(content)
    assert kind.recorded("forebay") == ("", [])
