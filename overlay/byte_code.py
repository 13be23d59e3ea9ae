"""Compiles byte code for several versions of Python. Python loads byte code without reading the source.

Pods mount the overlay read-only, so Python cannot store byte code itself. The files have unchecked hashes (PEP 552), so
their times do not matter.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

MINORS = range(11, 16)
"""The minor versions of Python 3 that `find_interpreters` looks for. The server needs 3.11."""

PLACE = "/run/forebay/overlay/server"
"""The folder of the sources, as the byte code has it. When Python loads a file, it replaces this folder by the real
folder of the file."""

COMPILE = f"""
import json, py_compile, sys
for name in json.load(sys.stdin):
    py_compile.compile(name, dfile="{PLACE}/" + name, doraise=True,
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


INSTALLED = (".pyenv/versions/3.{minor}.*", ".local/share/uv/python/cpython-3.{minor}.*")
"""The folders below the user's home in which pyenv and uv install versions of Python."""


def find_interpreters() -> list[Path]:
    """Find one interpreter of each minor version on this machine: on PATH, or else installed by pyenv or uv."""
    found = (next(filter(read_version, _candidates(minor)), None) for minor in MINORS)
    return [path for path in found if path]


def _candidates(minor: int) -> Iterator[Path]:
    """Yield the possible paths of an interpreter. A program on PATH may be a shim of pyenv that does not run."""
    if on_path := shutil.which(f"python3.{minor}"):
        yield Path(on_path)
    for pattern in INSTALLED:
        yield from sorted(Path.home().glob(f"{pattern.format(minor=minor)}/bin/python3.{minor}"))


@cache
def read_version(interpreter: Path) -> str:
    """The version of an interpreter, such as "3.12.3"; "" if it does not run."""
    command = [str(interpreter), "-c", "import sys; print(*sys.version_info[:3], sep='.')"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def compile_sources(sources: Mapping[str, bytes], interpreters: Iterable[Path]) -> dict[str, bytes]:
    """Compile the Python sources among these files with each interpreter. Returns path -> byte code.

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
    # -s -S ignore the packages of this machine. -I would also ignore the seed.
    subprocess.run(
        [str(interpreter), "-s", "-S", "-c", COMPILE],
        input=json.dumps(names),
        text=True,
        check=True,
        cwd=root,
        env={"PYTHONHASHSEED": "0"},
    )
