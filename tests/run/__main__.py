"""Run the tests: `python -m tests.run --help`."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from cluster import pins
from tests.run.lanes import Run, environment
from tests.run.machine import cpu_seconds
from tests.run.results import count, draw_table
from tests.run.stages import STAGES, choose

DESCRIPTION = """\
Run the tests in stages. Without a name all stages run, in two lanes side by side: what runs on this machine, and what
runs on a kind cluster. Lint and unit tests come first and end the run where they fail. A stage brings what it needs.
The run ends with a table of the time that each stage took, the failures, and one line that counts all tests.
"""


KEPT_RUNS = 3
"""The number of runs whose logs are kept."""


def parser() -> argparse.ArgumentParser:
    """The command line's grammar, with its help."""
    top = argparse.ArgumentParser(
        prog="python -m tests.run",
        description=DESCRIPTION,
        epilog=f"stages: {', '.join(stage.name for stage in STAGES)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("stages", nargs="*", metavar="STAGE", help="run only these stages and the stages that they need")
    return top


def make_folder(parent: Path) -> Path:
    """Make the folder of this run's logs. Those of the newest runs stay, and those of runs that still run."""
    folder = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder.mkdir(parents=True)
    for old in sorted(parent.iterdir())[:-KEPT_RUNS]:
        if not is_running(int(old.name.rpartition("-")[2])):
            shutil.rmtree(old)
    return folder


def is_running(pid: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def listen_to_signals() -> None:
    """End in order at SIGINT, also where the caller ignores it as shells do in the background, and at SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def main() -> int:
    """Run the stages; 0 when nothing failed."""
    arguments = parser().parse_args()
    try:
        chosen = choose(tuple(arguments.stages))
    except KeyError as missing:
        parser().error(f"there is no stage {missing}; see --help")
    folder = make_folder(pins.cache() / "tests")
    print(f"logs: {folder}", flush=True)
    listen_to_signals()
    began, cpu = time.monotonic(), cpu_seconds()
    run = Run(chosen, folder, {**environment(), "FOREBAY_AUDIT_LOGS": str(folder)})
    try:
        run.wait()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    results = run.results
    print("", draw_table(results, time.monotonic() - began, cpu_seconds() - cpu, os.cpu_count() or 1), "", sep="\n")
    for failure in (each for result in results for each in result.failures):
        print(f"FAILED {failure.where}: {failure.why}")
    passed, failed, skipped = count(results)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
