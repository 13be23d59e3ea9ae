"""Steps that a person follows: what is done, how far it is, how long it took, and why it failed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cluster import pins
from cluster.estimate import Estimate, in_words

HEARTBEAT = 15.0
"""Seconds between two lines that say how far a running step is."""

_printing = threading.Lock()


class StepFailed(Exception):
    """A step that could not be done: `str()` says which, why, what to try and where its log is."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy
        self.step = ""
        self.log: Path | None = None

    def __str__(self) -> str:
        lines = [f"failed: {self.step}" if self.step else "failed", f"  why: {self.why}"]
        if self.remedy:
            lines.append(f"  try: {self.remedy}")
        if self.log:
            lines.append(f"  log: {self.log}")
        return "\n".join(lines)


class Step:
    """A running step: commands it runs write to its log."""

    def __init__(self, what: str, log: Path) -> None:
        self.what = what
        self.log = log
        self.began = time.monotonic()
        self.progress: Callable[[], str] = lambda: last_lines(log, 1)
        """Says how far the step is; by default the last line that a command wrote."""
        self.parts: Callable[[], tuple[float, float]] | None = None
        """Counts the finished equal parts of the step, and all parts; None if unknown."""

    def share(self) -> float | None:
        """The finished share, from 0 to 1; None if unknown."""
        done, parts = self.parts() if self.parts else (0, 0)
        return done / parts if parts else None

    def run(
        self,
        args: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        stdin: IO[bytes] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Run a command to its end. Raises StepFailed with its last output if it fails or does not exist."""
        with self.log.open("ab") as out:
            out.write(f"\n$ {' '.join(map(str, args))}\n".encode())
            out.flush()
            try:
                done = subprocess.run(
                    args, stdin=stdin or subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=cwd, check=False
                )
            except OSError as error:
                raise StepFailed(f"{args[0]} can't be run: {error.strerror}") from error
        if done.returncode:
            raise StepFailed(f"{Path(args[0]).name} ended with {done.returncode}:\n{last_lines(self.log, 12)}")


_estimate: Estimate | None = None


@contextmanager
def planned(names: Sequence[str]) -> Iterator[None]:
    """Let every step say what is left of these, while the context lasts."""
    global _estimate  # noqa: PLW0603
    _estimate = Estimate(names)
    try:
        yield
    finally:
        _estimate = None


def say(text: str) -> None:
    """Print a message for the user to standard error. Results go to standard output."""
    with _printing:
        print(text, file=sys.stderr, flush=True)


def elapsed(seconds: float) -> str:
    """A duration as a person writes it: "8.2 s", "45 s", "3m05s"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{int(seconds) // 60}m{int(seconds) % 60:02d}s"


def last_lines(log: Path, count: int) -> str:
    """The last lines of a log that are not empty, shortened, without terminal colours."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", file.read().decode(errors="replace"))
    lines = [line.rstrip()[:300] for line in re.split(r"[\r\n]", text) if line.strip()]
    return "\n".join(lines[-count:])


@contextmanager
def step(what: str, remedy: str = "") -> Iterator[Step]:
    """Run a step: print its beginning, its progress from time to time, and its duration.

    A StepFailed gets the step's name and log, and `remedy` if it has no remedy.
    """
    log = pins.cache() / "logs" / (re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-") + ".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    running = Step(what, log)
    ended = threading.Event()

    def report_progress() -> None:
        while not ended.wait(HEARTBEAT):
            left = _estimate.seconds_left() if _estimate else None
            whole = "" if left is None else f"; {in_words(left)} left of all"
            say(f"    {what}: {elapsed(time.monotonic() - running.began)}, {running.progress()[:100]}{whole}")

    say(f"==> {what}")
    if _estimate:
        _estimate.begin(what, running.share)
    heart = threading.Thread(target=report_progress, daemon=True)
    heart.start()
    try:
        yield running
    except StepFailed as failure:
        failure.step = failure.step or what
        failure.remedy = failure.remedy or remedy
        if failure.log is None and log.stat().st_size:
            failure.log = log
        raise
    finally:
        ended.set()
        heart.join()
    if _estimate:
        _estimate.end(what)
    say(f"    {what}: done in {elapsed(time.monotonic() - running.began)}")


def output(args: Sequence[str | Path], *, timeout: float = 30, env: Mapping[str, str] | None = None) -> str | None:
    """The output of a short command, stripped; None if the command fails, does not exist, or takes more than `timeout`
    seconds."""
    try:
        done = subprocess.run(args, capture_output=True, text=True, timeout=timeout, env=env, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def wait_until(holds: Callable[[], bool], what: str, timeout: float, remedy: str = "") -> None:
    """Check the condition four times a second until it is true. Raises StepFailed after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            raise StepFailed(f"{what} did not happen within {elapsed(timeout)}", remedy)
        time.sleep(0.25)


def built(target: Path, make: Callable[[Path], None]) -> Path:
    """Return the folder `target`. If it does not exist, `make` fills another folder, which is then renamed to `target`.

    So an existing folder is complete. The next run removes what an interrupted run left.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(left)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    make(unfinished)
    unfinished.chmod(0o755)
    unfinished.rename(target)
    return target


@contextmanager
def alone() -> Iterator[None]:
    """One command of this package at a time works on a cache; another waits and says so."""
    path = pins.cache() / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            say(f"    waiting for another command of the cluster (process {file.read().strip()}) to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
