"""A stand-in for S3: moto's, in its own process, with its own lock and environment."""

import fcntl
import hashlib
import os
import subprocess
import sys
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.pins import ROOT
from tests.integration.control_plane import free_ports, running
from tests.kubectl import wait_for

REQUIREMENTS = ROOT / "requirements/buckets.txt"
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
BUCKET = "files-of-tests"
SIGNED = "AWS4-HMAC-SHA256 Credential=of-the-tests/20260101/us-east-1/s3/aws4_request"
"""moto checks no signature, but deletes nothing without one."""


def environment() -> Path:
    """Its folder. Made once for each lock, by one of the tests' processes."""
    cache = Path(os.environ.get("FOREBAY_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "forebay")
    folder = cache.expanduser() / "buckets" / hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            uv, python = cache.expanduser() / "uv/bin/uv", folder / "venv/bin/python"
            install = ("pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", REQUIREMENTS)
            subprocess.run((uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder / "venv"), check=True)
            subprocess.run((uv, *install), check=True)
            (folder / "done").touch()
    return folder


class BucketServer:
    """S3 with one bucket, at a port of loopback."""

    process: subprocess.Popen[bytes]

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def objects(self) -> list[str]:
        """The names of all objects of the bucket."""
        found = ET.fromstring(self._ask("GET", f"/{BUCKET}?list-type=2"))
        return [name.text or "" for name in found.iter(f"{NAMESPACE}Key")]

    def uploads(self) -> int:
        """How many multipart uploads are open."""
        return len(list(ET.fromstring(self._ask("GET", f"/{BUCKET}?uploads")).iter(f"{NAMESPACE}Upload")))

    def empty(self) -> None:
        for name in self.objects():
            self._ask("DELETE", f"/{BUCKET}/{name}")

    def make_bucket(self) -> None:
        self._ask("PUT", f"/{BUCKET}")

    def _ask(self, method: str, path: str) -> bytes:
        sent = b"" if method == "PUT" else None
        request = urllib.request.Request(f"{self.url}{path}", sent, {"Authorization": SIGNED}, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return bytes(answer.read())

    def answers(self) -> bool:
        try:
            self._ask("GET", "/")
        except OSError:
            return False
        return True


@contextmanager
def running_bucket(folder: Path) -> Iterator[BucketServer]:
    """Run one."""
    python = environment() / "venv/bin/python"
    server = BucketServer(free_ports(1)[0])
    command = (python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(server.port))
    with running(folder / "bucket.log", *command) as server.process:
        wait_for(server.answers, "the stand-in for S3 answers", timeout=60)
        server.make_bucket()
        yield server
