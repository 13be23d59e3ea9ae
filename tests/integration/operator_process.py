"""The operator as a process of its own, as it runs in a cluster."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.control_plane import free_ports
from tests.kubectl import Kubectl


@contextmanager
def running_operator(kubectl: Kubectl, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    (port,) = free_ports(1)
    command = [
        sys.executable, "-W", "error", "-m", "forebay_operator", "--gpu-image", "gpu-server:1", "--cpu-image",
        "cpu-server:1", "--health-address", f"http://127.0.0.1:{port}/healthz",
    ]  # fmt: skip
    with log.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out, env=kubectl.environment()) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
