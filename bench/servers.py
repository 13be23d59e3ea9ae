"""Servers to compare: the composed one and plain `vllm serve`, with the same vLLM and the same arguments."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from forebay_server import launch
from forebay_server.app import FOREBAY_MIDDLEWARE, PLUGIN
from forebay_server.config import settings

PLAIN_PORT = 8100
START_TIMEOUT = 300.0
END_TIMEOUT = 60.0


@dataclass(frozen=True)
class Server:
    """A running server: its base URL, the headers that it requires, and its first process."""

    name: str
    url: str
    headers: Mapping[str, str]
    process: subprocess.Popen[bytes]
    log_file: Path
    started_after: float
    """Seconds from exec until the server answered its first health check."""

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        """Everything that the server has written."""
        return self.log_file.read_text(errors="replace")

    def processes(self) -> list[int]:
        """Process ids of the whole tree."""
        parents: dict[int, int] = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                number, _, rest = status.read_text().partition(" (")
                parents[int(number)] = int(rest.rpartition(") ")[2].split()[1])
            except FileNotFoundError:  # ended while we looked
                continue
        tree = [self.pid]
        for pid in tree:
            tree += [child for child, parent in parents.items() if parent == pid]
        return tree

    def engine_processes(self) -> list[int]:
        """Process ids of the engine and its workers."""
        return [pid for pid in self.processes()[1:] if b"resource_tracker" not in _command_line(pid)]

    def cpu_seconds(self) -> float:
        """CPU time that the tree has used."""
        return sum(_cpu_seconds(pid) for pid in self.processes())

    def front_end_cpu_seconds(self) -> float:
        """CPU time of the HTTP process: the engine is a separate process."""
        return _cpu_seconds(self.pid)

    def memory_bytes(self) -> int:
        """Proportional set size of the tree in bytes: pages that processes share are counted once."""
        total = 0
        for pid in self.processes():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total


@contextmanager
def composed(env: Mapping[str, str]) -> Iterator[Server]:
    """forebay-server with its key check on, as in a pod."""
    with tempfile.TemporaryDirectory() as keys:
        key = secrets.token_urlsafe(32)
        Path(keys, "key").write_text(key)
        own = {"FOREBAY_AUTH": "APIKey", "FOREBAY_KEYS_DIR": keys, "FOREBAY_TERMINATION_LOG": f"{keys}/log"}
        command = [sys.executable, "-m", "forebay_server"]
        headers = {"Authorization": f"Bearer {key}"}
        with _running("composed", command, {**env, **own}, settings.HTTP_PORT, headers) as server:
            yield server


@contextmanager
def plain(env: Mapping[str, str]) -> Iterator[Server]:
    """Run `vllm serve` with the arguments and variables that forebay-server would set, except those that add Forebay's
    parts."""
    planned = launch.plan(env)
    arguments = list(planned.arguments)
    for flag in ("--middleware", "--port"):
        position = arguments.index(flag)
        del arguments[position : position + 2]
    assert FOREBAY_MIDDLEWARE not in arguments
    others = [name for name in planned.variables["VLLM_PLUGINS"].split(",") if not name.startswith(PLUGIN)]
    variables = planned.variables | {"VLLM_PLUGINS": ",".join(others) or "none"}
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", *arguments, "--port", str(PLAIN_PORT)]
    with _running("plain", command, {**env, **variables}, PLAIN_PORT, {}) as server:
        yield server


@contextmanager
def _running(
    name: str, command: list[str], env: Mapping[str, str], port: int, headers: Mapping[str, str]
) -> Iterator[Server]:
    with tempfile.NamedTemporaryFile() as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as process:
        began = time.perf_counter()
        started = Server(name, f"http://127.0.0.1:{port}/v1", headers, process, Path(log.name), 0.0)
        try:
            while not _answers(f"http://127.0.0.1:{port}/health"):
                if process.poll() is not None or time.perf_counter() - began > START_TIMEOUT:
                    raise RuntimeError(f"{name} did not start:\n{started.log()[-3000:]}")
                time.sleep(0.02)
            yield replace(started, started_after=time.perf_counter() - began)
        finally:
            _end(started)


def _end(server: Server) -> None:
    """Send SIGTERM. If it does not end the server, send SIGKILL to the whole tree: an engine that is left would keep
    its GPU."""
    tree = server.processes()
    server.process.terminate()
    try:
        server.process.wait(timeout=END_TIMEOUT)
    except subprocess.TimeoutExpired:
        for pid in tree:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:  # ended while we looked
        return b""


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads, in nanoseconds' precision: clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
