"""Wheels that travel in pieces: NAME.whl.00, NAME.whl.01, … in a folder or below it. Standard library only."""

import re
import shutil
import zipfile
from pathlib import Path

PIECE = re.compile(r"(?P<name>.+\.whl)\.(?P<number>\d{2})")


class BrokenWheel(Exception):
    """A piece is missing, or the pieces make no wheel."""


def whole_wheels(folder: Path, target: Path) -> list[Path]:
    """The wheels of `folder` and its subfolders; those in pieces are joined in `target` first. Raises BrokenWheel."""
    whole = sorted(folder.rglob("*.whl"))
    pieces: dict[str, dict[int, Path]] = {}
    for path in folder.rglob("*.whl.??"):
        if found := PIECE.fullmatch(path.name):
            pieces.setdefault(found["name"], {})[int(found["number"])] = path
    return whole + [join(name, parts, target) for name, parts in sorted(pieces.items())]


def join(name: str, pieces: dict[int, Path], target: Path) -> Path:
    """Put the numbered pieces of the wheel `name` together in the folder `target`. Raises BrokenWheel."""
    if sorted(pieces) != list(range(len(pieces))):
        missing = sorted(set(range(max(pieces))) - pieces.keys())
        raise BrokenWheel(f"{name}: piece {missing[0]:02} is missing")
    target.mkdir(parents=True, exist_ok=True)
    wheel = target / name
    with wheel.open("wb") as whole:
        for number in sorted(pieces):
            with pieces[number].open("rb") as piece:
                shutil.copyfileobj(piece, whole)
    if not zipfile.is_zipfile(wheel):
        raise BrokenWheel(f"{name}: the last piece is missing after piece {max(pieces):02}")
    return wheel


def split(wheel: Path, size: int) -> list[Path]:
    """Replace a wheel by its pieces of at most `size` bytes; a wheel that small stays as it is."""
    if wheel.stat().st_size <= size:
        return [wheel]
    pieces: list[Path] = []
    with wheel.open("rb") as whole:
        while content := whole.read(size):
            piece = wheel.with_name(f"{wheel.name}.{len(pieces):02}")
            piece.write_bytes(content)
            pieces.append(piece)
    wheel.unlink()
    return pieces


def omit_files(wheel: Path, patterns: tuple[str, ...]) -> int:
    """Remove the files that match one of the patterns from a wheel, and from its list of files.

    Returns the bytes by which the wheel shrinks.
    """
    before = wheel.stat().st_size
    lighter = wheel.with_suffix(".lighter")
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(lighter, "w", zipfile.ZIP_DEFLATED) as target:
        dropped = {name for name in source.namelist() if any(Path(name).match(pattern) for pattern in patterns)}
        for entry in source.infolist():
            if entry.filename in dropped:
                continue
            content = source.read(entry)
            if entry.filename.endswith(".dist-info/RECORD"):
                lines = content.decode().splitlines(keepends=True)
                content = "".join(line for line in lines if line.split(",")[0] not in dropped).encode()
            target.writestr(entry, content)
    lighter.replace(wheel)
    return before - wheel.stat().st_size
