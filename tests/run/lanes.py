"""Runs the stages of a lane one after another, lanes side by side, and ends all early where a gating stage fails."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from tests.run.process import GRACE, Process
from tests.run.results import Failure, Result, minutes, read_junit
from tests.run.stages import Stage

TICK = 30.0
"""Seconds between two lines that say how far the running stages are."""

SHOWN = 120
"""Lines of a failed stage's log that are shown."""


class Run:
    """One run of some stages. Logs and pytest's result files go into `folder`."""

    def __init__(self, stages: Sequence[Stage], folder: Path, env: Mapping[str, str]) -> None:
        self.stages = stages
        self._folder = folder
        self._env = env
        self._began = time.monotonic()
        self._changed = threading.Condition()
        self._results: dict[str, Result] = {}
        self._running: dict[str, Process] = {}
        self._ended_early = ""

    @property
    def results(self) -> list[Result]:
        """Results of the ended stages, in the order of the stages."""
        with self._changed:
            return [self._results[stage.name] for stage in self.stages if stage.name in self._results]

    def wait(self) -> None:
        """Run all stages to their end."""
        lanes = dict.fromkeys(stage.lane for stage in self.stages)
        with ThreadPoolExecutor(len(lanes)) as pool:
            running = [pool.submit(self._run_lane, lane) for lane in lanes]
            try:
                while wait(running, TICK).not_done:
                    self._print_progress()
            except KeyboardInterrupt:
                self._end_early("it was interrupted")
                raise
            for each in running:
                each.result()

    def _run_lane(self, lane: str) -> None:
        for stage in self.stages:
            if stage.lane == lane:
                result = self._run_stage(stage)
                with self._changed:
                    self._results[stage.name] = result
                    self._changed.notify_all()
                self._print_end(stage, result)
                if result.failures and stage.gates:
                    self._end_early(f"{stage.name} failed")

    def _run_stage(self, stage: Stage) -> Result:
        if not stage.cleans_up and (why := self._wait_for(stage)):
            return _not_run(stage, why)
        log, junit = self._folder / f"{stage.name}.log", self._folder / f"{stage.name}.xml"
        files = self._folder / f"{stage.name}-files"
        results = (f"--junitxml={junit}", "-o", "junit_logging=no", f"--basetemp={files}") if stage.is_pytest else ()
        env = {**self._env, "JUNIT_FILE": str(junit)}
        with self._changed:
            if self._ended_early and not stage.cleans_up:  # since it was waited for
                return _not_run(stage, self._ended_early)
            yielding = ("nice", "-n", "5") if stage.yields else ()
            process = Process([*yielding, *stage.command, *results], log, env)
            self._running[stage.name] = process
        self._say(f"==> {stage.name}")
        ended = process.wait()
        with self._changed:
            del self._running[stage.name]
        if junit.is_file():
            passed, skipped, failures = read_junit(junit)
        else:
            passed, skipped, failures = int(not stage.cleans_up and ended.status == 0), 0, ()
        if ended.status and not failures:
            failures = (Failure(stage.name, self._ended_early or f"it ended with {ended.status}, see {log}"),)
        return Result(stage.name, ended.wall, ended.cpu, passed, skipped, failures)

    def _wait_for(self, stage: Stage) -> str:
        """Wait until the stages in `needs` and `after` have ended. Returns why it cannot run; "" if it
        can."""
        chosen = {each.name for each in self.stages}
        first = {*stage.needs, *(name for name in stage.after if name in chosen)}
        with self._changed:
            self._changed.wait_for(lambda: self._ended_early or first <= self._results.keys())
            failed = [name for name in stage.needs if name in self._results and self._results[name].failures]
        return self._ended_early or (f"{failed[0]} failed" if failed else "")

    def _end_early(self, why: str) -> None:
        """Let no further stage begin, and end those that run."""
        with self._changed:
            self._ended_early = self._ended_early or why
            ending = {name: each for name, each in self._running.items() if not self._stage(name).cleans_up}
            self._changed.notify_all()
        for process in ending.values():
            process.interrupt()
        deadline = time.monotonic() + GRACE
        with self._changed:
            self._changed.wait_for(lambda: not ending.keys() & self._running.keys(), deadline - time.monotonic())
            left = [each for name, each in ending.items() if name in self._running]
        for process in left:
            process.kill()

    def _stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    def _say(self, text: str) -> None:
        print(f"{minutes(time.monotonic() - self._began):>7}  {text}", flush=True)

    def _print_progress(self) -> None:
        with self._changed:
            names = list(self._running)
        progress_texts = [f"{name}: {progress(self._folder / f'{name}.log')}" for name in names]
        if progress_texts:
            self._say("    " + "  |  ".join(progress_texts))

    def _print_end(self, stage: Stage, result: Result) -> None:
        counts = f"{result.passed} passed, {len(result.failures)} failed"
        if result.skipped:
            counts += f", {result.skipped} skipped"
        self._say(f"    {stage.name}: {counts} in {minutes(result.wall)}, CPU {minutes(result.cpu)}")
        log = self._folder / f"{stage.name}.log"
        if result.failures and log.is_file():
            print(*(f"    {stage.name} | {line}" for line in last_words(log)), sep="\n", flush=True)


def _not_run(stage: Stage, why: str) -> Result:
    return Result(stage.name, failures=(Failure(stage.name, f"not run: {why}"),))


def progress(log: Path) -> str:
    """How far a stage is: the share of its tests that ended, else the last line of its log."""
    text = log.read_bytes()[-4096:].decode(errors="replace") if log.is_file() else ""
    shares = re.findall(r"\[ *(\d+%)\]", text)
    if shares:
        return str(shares[-1])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:100] if lines else "begins"


def last_words(log: Path) -> list[str]:
    """The end of a log, from the first failure on if pytest reports failures."""
    lines = log.read_text(errors="replace").splitlines()
    begin = next((at for at, line in enumerate(lines) if re.match(r"=+ (FAILURES|ERRORS) =+", line)), 0)
    return lines[begin:][-SHOWN:]


def environment() -> dict[str, str]:
    """The environment of stages: the caller's, with their own cluster kept until the last stage."""
    return {**os.environ, "FOREBAY_E2E_READY": "1"}
