"""The folders of the logs of test runs."""

import os
from pathlib import Path

from tests.run.__main__ import KEPT_RUNS, make_folder


def test_a_run_keeps_the_logs_of_the_newest_runs_and_of_those_that_still_run(tmp_path: Path) -> None:
    ended = [tmp_path / f"20200101-00000{number}-{2**22 + number}" for number in range(KEPT_RUNS + 2)]
    running = tmp_path / f"20190101-000000-{os.getppid()}"
    for folder in (*ended, running):
        folder.mkdir()
    made = make_folder(tmp_path)
    assert sorted(tmp_path.iterdir()) == [running, *ended[-KEPT_RUNS + 1 :], made]
