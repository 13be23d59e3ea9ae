"""One command of a stage: its output in a log, its time measured, and a way to end it early."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

GRACE = 60.0
"""Seconds that a command has to clear up after it was interrupted."""


@dataclass(frozen=True)
class Ended:
    """A command that ended. `wall` and `cpu` are seconds; `cpu` counts its child processes, and no container."""

    status: int
    wall: float
    cpu: float


class Process:
    """A running command with its own process group."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        """Start it. Raises OSError where the program is not there."""
        self._began = time.monotonic()
        self._lock = Lock()
        self._ended = False
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, start_new_session=True
            )

    def wait(self) -> Ended:
        """Wait for its end."""
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            _, status, usage = os.wait4(self._process.pid, 0)
            self._ended = True
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return Ended(self._process.returncode, time.monotonic() - self._began, usage.ru_utime + usage.ru_stime)

    def interrupt(self) -> None:
        """Interrupt it, as Ctrl-C does."""
        self._send(signal.SIGINT)

    def kill(self) -> None:
        """End it and its children at once."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        """Signal the process group, unless its leader was reaped: then another process may have its ID."""
        with self._lock:
            if not self._ended:
                os.killpg(self._process.pid, number)
