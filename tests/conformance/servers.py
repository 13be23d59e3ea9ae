"""Servers to check, each in a container as a pod has it: no root, a read-only root file system, no capabilities."""

import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MODEL = "forebay"
NAMES = f"{MODEL} gpt-6-astra gpt-3.5-turbo-instruct text-embedding-3-small"
"""The served model names: openai-python's suite has its own."""

START_SECONDS = 240.0


@dataclass(frozen=True)
class Server:
    """A container that serves."""

    address: str
    ops: str
    key: str

    @property
    def api(self) -> str:
        return f"{self.address}/v1"


@contextmanager
def running(image: str, env: Mapping[str, str], folder: Path, mounts: Mapping[Path, str] = {}) -> Iterator[Server]:
    """`image` with these variables, on free ports of this machine. `folder` takes the key."""
    key = secrets.token_urlsafe(24)
    keys = folder / "keys"
    keys.mkdir()
    (keys / "key").write_text(key)
    given = {
        "FOREBAY_AUTH": "APIKey",
        "FOREBAY_TERMINATION_LOG": "/tmp/termination-log",
        "VLLM_EXTRA_ARGS": f"--served-model-name {NAMES}",
        **env,
    }
    options = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--shm-size=1g"]
    options += ["--tmpfs=/tmp:mode=1777", "--tmpfs=/cache:mode=1777"]
    options += ["--publish=127.0.0.1::8000", "--publish=127.0.0.1::8001"]
    volumes = {keys: "/run/forebay/keys", **mounts}
    options += [f"--volume={source}:{target}:ro" for source, target in volumes.items()]
    variables = [f"--env={name}={value}" for name, value in given.items()]
    container = docker("run", "--detach", *options, *variables, image)
    try:
        ports = [docker("port", container, str(port)).splitlines()[0] for port in (8000, 8001)]
        server = Server(f"http://{ports[0]}", f"http://{ports[1]}", key)
        wait_ready(server, container)
        yield server
    finally:
        docker("rm", "--force", "--volumes", container)


def wait_ready(server: Server, container: str) -> None:
    """Raises RuntimeError with the server's last output if it ends, or is not ready in time."""
    deadline = time.monotonic() + START_SECONDS
    while not answers(f"{server.ops}/readyz"):
        ended = docker("inspect", "--format={{.State.Running}}", container) != "true"
        if ended or time.monotonic() > deadline:
            logs = subprocess.run(
                ["docker", "logs", "--tail=40", container], capture_output=True, text=True, check=False
            )
            raise RuntimeError(f"the server did not get ready:\n{logs.stdout}{logs.stderr}")
        time.sleep(0.2)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def files_of(image: str, folder: Path) -> Path:
    """The files of an image that holds little else, such as a model's; docker adds its own, such as etc/hosts."""
    target = folder / "files"
    container = docker("create", image, "none")
    try:
        target.mkdir()
        docker("cp", f"{container}:/.", str(target))
    finally:
        docker("rm", container)
    target.chmod(0o755)
    return target


def docker(*arguments: str) -> str:
    """The output of docker. Raises RuntimeError with its message if it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise RuntimeError(f"docker {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()
