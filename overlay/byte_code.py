"""Byte code for several versions of Python, which Python loads without a look at the source.

Pods mount the overlay read-only, so Python could not keep byte code that it writes itself. The files have unchecked
hashes (PEP 552), so their times do not matter.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

MINORS = range(11, 16)
"""The minor versions of Python 3 that are looked for. The server needs 3.11."""

PLACE = "/run/forebay/overlay/server"
"""The folder of the server in a pod, as tracebacks show it. Python replaces it by the real one."""

COMPILE = f"""
import json, py_compile, sys
for name in json.load(sys.stdin):
    py_compile.compile(name, dfile="{PLACE}/" + name, doraise=True,
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


def find_interpreters() -> list[Path]:
    """The interpreter of each minor version that PATH leads to, if it runs. (A shim of pyenv may not.)"""
    found = (shutil.which(f"python3.{minor}") for minor in MINORS)
    return [Path(path) for path in found if path and read_version(Path(path))]


@cache
def read_version(interpreter: Path) -> str:
    """The version of an interpreter, such as "3.12.3"; "" if it does not run."""
    command = [str(interpreter), "-c", "import sys; print(*sys.version_info[:3], sep='.')"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def compile_sources(sources: Mapping[str, bytes], interpreters: Iterable[Path]) -> dict[str, bytes]:
    """The byte code of the Python sources among these files, by path, for each interpreter.

    The result depends only on the sources and the interpreters: each compiles all files in one order and process, with
    one seed for hashes.
    """
    names = sorted(name for name in sources if re.fullmatch(r".+/\w+\.py", name))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sources[name])
        for interpreter in interpreters:
            _compile(interpreter, root, names)
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.pyc"))}


def _compile(interpreter: Path, root: Path, names: Sequence[str]) -> None:
    # -s -S: no packages of this machine. Not -I, which would also ignore the seed.
    subprocess.run(
        [str(interpreter), "-s", "-S", "-c", COMPILE],
        input=json.dumps(names),
        text=True,
        check=True,
        cwd=root,
        env={"PYTHONHASHSEED": "0"},
    )
