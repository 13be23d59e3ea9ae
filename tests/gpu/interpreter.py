"""The Python that has vLLM, with the server of this checkout on its path. Standard library only, no network."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from cluster.pins import ROOT, cache
from overlay.content import collect_files, write_files
from tests.gpu.wheels import whole_wheels

FOLDER = cache() / "gpu"

OFFLINE = ("--no-index", "--no-deps", "--ignore-installed", "--no-compile", "--no-cache-dir", "--quiet")
"""pip's options: exactly these wheels, whatever the packages of the outer Python are."""


class NoInterpreter(Exception):
    """No Python with vLLM is available; the message has a remedy."""


def with_vllm(wheels: Path | None) -> Path:
    """The Python of FOREBAY_VLLM_PYTHON, or a virtual environment with these wheels, or this Python.

    Raises NoInterpreter if it has no vLLM.
    """
    if wheels is not None:
        python = install_wheels(whole_wheels(wheels, FOLDER / "joined"))
    else:
        python = Path(os.environ.get("FOREBAY_VLLM_PYTHON") or sys.executable)
    probe = [str(python), "-c", "import importlib.util, sys; sys.exit(not importlib.util.find_spec('vllm'))"]
    if subprocess.run(probe, check=False).returncode:
        raise NoInterpreter(f"{python} has no vLLM. Set FOREBAY_VLLM_PYTHON to a Python that has it, or give --wheels.")
    return python


def install_wheels(wheels: list[Path]) -> Path:
    """A virtual environment with these wheels in front of the packages of this Python, such as its torch.

    The environment is kept and used again for the same wheels.
    """
    if not wheels:
        raise NoInterpreter("the folder of wheels holds none")
    key = hashlib.sha256("".join(f"{sys.prefix} {each.name} {each.stat().st_size}" for each in wheels).encode())
    home = FOLDER / f"venv-{key.hexdigest()[:12]}"
    python, ready = home / "bin/python", home / "ready"
    if ready.exists():
        return python
    print(f"installing {len(wheels)} wheels into {home}", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    packages = next(home.glob("lib/python*/site-packages"))
    # Not --system-site-packages: if this Python is itself in a virtual environment, that would skip its packages.
    outer = [path for path in sys.path if path.endswith("-packages")]
    (packages / "outer.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in outer))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", *OFFLINE]
    _run_pip([*pip, *map(str, wheels)])
    compile_packages(python, packages)
    ready.touch()
    return python


def install_server(python: Path) -> Path:
    """Write this checkout's server into a folder for PYTHONPATH. Returns the folder.

    It has the files of the overlay: vLLM finds the server's plugins by the metadata among them.
    """
    target = FOLDER / "server"
    shutil.rmtree(target, ignore_errors=True)
    write_files(target, collect_files(ROOT, [python]))
    return target


def compile_packages(python: Path, folder: Path) -> None:
    """Write the byte code, as images have it. A file that is no valid Python, such as a template, stays as it is."""
    subprocess.run([str(python), "-m", "compileall", "-q", "-j", "0", str(folder)], check=False, capture_output=True)


def _run_pip(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoInterpreter(f"pip failed: {done.stderr.strip()[-2000:]}")
