"""The operator as a process of its own, as it runs in a cluster."""

import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from tests.integration.control_plane import free_ports, running
from tests.kubectl import Kubectl


def running_operator(
    kubectl: Kubectl, log: Path, *options: str, port: int | None = None
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Run the operator with the access that this kubectl has, until the context ends; probes are on `port`."""
    port = port or free_ports(1)[0]
    command = [
        sys.executable, "-W", "error", "-m", "forebay_operator", "--gpu-image", "gpu-server:1", "--cpu-image",
        "cpu-server:1", "--health-address", f"127.0.0.1:{port}", "--resync-interval", "5",
        "--namespace", "forebay-system", *options,
    ]  # fmt: skip
    return running(log, *command, env=kubectl.environment())
