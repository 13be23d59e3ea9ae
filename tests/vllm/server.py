"""The processes that tests/vllm starts: forebay-server, and a stand-in for the hub."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from tests.e2e.hub import Faults, Hub, Repository
from tests.fetch import fetch

ROOT = Path(__file__).parents[2]

REPOSITORY = "acme/tiny"

NAME = "tiny"
"""The name under which the shared models are served."""

KEY = "key-of-the-shared-servers"

ROUTES_FILE = "routes.json"
"""In the folder of a shared server: its routes and tasks, written by list_routes.py."""


PASSED = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VLLM_CACHE_ROOT")
"""Variables of the caller that the servers get too, besides PATH."""


def environment(tmp_path: Path, more: Mapping[str, str] = {}) -> dict[str, str]:
    """Only the caller's variables that programs need, with every cache under `tmp_path`."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "BASE_PATH": str(tmp_path / "cache"),
        "HF_HOME": str(tmp_path / "cache"),
        "FOREBAY_TERMINATION_LOG": str(tmp_path / "termination-log"),
        "FOREBAY_AUTH": "None",
        **{name: value for name, value in os.environ.items() if name in PASSED},
        **more,
    }


@contextmanager
def serving(folder: Path, faults: Faults | None = None, token: str = "") -> Iterator[Hub]:
    """The stand-in for the hub, on a free port of this machine."""
    hub = Hub(("127.0.0.1", 0), Repository(REPOSITORY, folder, token), faults)
    thread = Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def endpoint(hub: Hub) -> str:
    return f"http://127.0.0.1:{hub.server_address[1]}"


SERVE = """
import sys
from forebay_server import __main__
from forebay_server.config import settings
settings.HTTP_PORT, settings.OPS_PORT = int(sys.argv.pop(1)), int(sys.argv.pop(1))
__main__.main()
"""


class Server:
    """forebay-server beside the test, on its own ports."""

    def __init__(self, python: str, tmp_path: Path, variables: Mapping[str, str]) -> None:
        self.folder = tmp_path
        self.port, self.ops_port = free_port(), free_port()
        self.log = tmp_path / "log"
        self.first_metrics = ""
        """The metrics of a shared server before the first request of a test."""
        defaults = {"LOAD_FORMAT": "dummy", "KV_CACHE_MEMORY_BYTES": "16M", "MAX_MODEL_LEN": "4096"}
        env = environment(tmp_path, {**defaults, **variables})
        command = [python, "-c", SERVE, str(self.port), str(self.ops_port)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def failure(self, seconds: float = 120) -> dict[str, str]:
        """The termination log once the process has ended, and its exit status."""
        status = self.process.wait(seconds)
        content: dict[str, str] = json.loads((self.folder / "termination-log").read_text())
        return {**content, "status": str(status)}

    def ops(self, path: str) -> tuple[int, str]:
        """GET on the second port. Raises OSError while it does not listen."""
        return fetch(f"http://127.0.0.1:{self.ops_port}{path}", 10)

    def wait_for(self, path: str, status: int = 200, seconds: float = 120) -> str:
        """Poll until `path` returns `status`; returns the body."""
        deadline = time.monotonic() + seconds
        while True:
            assert self.process.poll() is None, self.log.read_text()[-5000:]
            assert time.monotonic() < deadline, self.log.read_text()[-5000:]
            try:
                answered, body = self.ops(path)
            except OSError:
                answered, body = 0, ""
            if answered == status:
                return body
            time.sleep(0.1)

    def wait_for_metric(self, name: str, holds: Callable[[float], bool], seconds: float = 30) -> None:
        """Read a metric without labels until `holds` is true for its value."""
        deadline = time.monotonic() + seconds
        while True:
            _, metrics = self.ops("/metrics")
            (line,) = [line for line in metrics.splitlines() if line.startswith(f"{name} ")]
            if holds(float(line.split()[1])):
                return
            assert time.monotonic() < deadline, line
            time.sleep(0.1)

    def children(self) -> list[int]:
        """Process ids of the engine's processes."""
        family = [self.process.pid]
        for pid in family:
            path = Path(f"/proc/{pid}/task/{pid}/children")
            family += [int(child) for child in path.read_text().split()] if path.exists() else []
        return family[1:]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                for pid in self.children():
                    os.kill(pid, signal.SIGKILL)
                self.process.kill()
                self.process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
