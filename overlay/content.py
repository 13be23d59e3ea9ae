"""Collects the files of the overlay: the server's packages, their metadata, the start file and byte code.

The files depend only on server/, protocol/, and the versions of Python for which byte code is added.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cluster import pins
from overlay.byte_code import compile_sources

Files = Mapping[str, bytes]
"""Path below the folder of the server -> content."""

PROJECTS = ("protocol", "server")
"""The folders of the checkout with the packages of the overlay."""

START_FILE = "forebay_start.py"


def collect_files(checkout: Path, interpreters: Sequence[Path]) -> dict[str, bytes]:
    """Return all files of the server's folder, with byte code for each interpreter."""
    sources = {name: content for project in PROJECTS for name, content in _sources(checkout / project)}
    files = {**sources, **compile_sources(sources, interpreters)}
    for project in PROJECTS:
        files |= build_metadata(checkout / project)
    return files


def write_files(folder: Path, files: Files) -> None:
    """Write files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _sources(project: Path) -> Iterator[tuple[str, bytes]]:
    folder = project / "src"
    for path in pins.files(folder):
        yield path.relative_to(folder).as_posix(), path.read_bytes()


def build_metadata(project: Path) -> dict[str, bytes]:
    """Build the metadata of an installed project from its pyproject.toml. vLLM finds the server's plugins in it."""
    described = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    head = {
        "Metadata-Version": "2.1",
        "Name": described["name"],
        "Version": described["version"],
        "Summary": described["description"],
        "License": described["license"],
        "Requires-Python": described["requires-python"],
    }
    folder = f"{described['name'].replace('-', '_')}-{described['version']}.dist-info"
    files = {f"{folder}/METADATA": "".join(f"{key}: {value}\n" for key, value in head.items()).encode()}
    groups = described.get("entry-points", {})
    if groups:
        lines = [
            line
            for group, entries in groups.items()
            for line in (f"[{group}]", *(f"{name} = {place}" for name, place in entries.items()), "")
        ]
        files[f"{folder}/entry_points.txt"] = "\n".join(lines).encode()
    return files
