"""The programs that others wrote to check such an API, in an environment of their own, from a lock with hashes."""

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements/conformance.txt"
OPENAI = "3.57.0"
PROGRAM_TIMEOUT = 1200
"""The time limit of one program."""


def environment() -> Path:
    """Its folder: `venv`, and openai-python's own suite. Made once for each lock."""
    cache = Path(os.environ.get("FOREBAY_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "forebay")
    folder = cache.expanduser() / "conformance" / hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    python = folder / "venv/bin/python"
    if not (folder / "done").exists():
        uv = cache.expanduser() / "uv/bin/uv"
        run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder / "venv")
        run(uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", REQUIREMENTS)
        download: list[str | Path] = [
            python,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]
        run(*download, "--no-binary=openai", "--no-build-isolation", f"--dest={folder}", f"openai=={OPENAI}")
        with tarfile.open(folder / f"openai-{OPENAI}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        (folder / "done").touch()
    return folder


def run(*command: str | Path) -> None:
    """Raises RuntimeError with the program's last output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PROGRAM_TIMEOUT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def answer(*command: str | Path, cwd: Path | None = None, **variables: str) -> str:
    """The output of a program, with any exit status."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=PROGRAM_TIMEOUT,
    )
    return done.stdout if done.stdout.strip() else done.stderr
