"""Fetch what a machine with a GPU lacks for a version of vLLM, for `make gpu WHEELS=DIR` there.

  python3 -m pip freeze > installed.txt                                          (on the machine with the GPU)
  ./bootstrap && python3 -m tests.gpu.pack DIR --vllm 0.26.0 --installed installed.txt     (on one with a registry)

DIR gets folders 00, 01, … of at most 60 MB each, which may travel one at a time; larger wheels lie there in pieces.
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from cluster.pins import cache
from tests.gpu.shapes import bring_tokenizer
from tests.gpu.wheels import omit_files, split

TOOLS = cache() / "uv/bin"
"""The folder in which ./bootstrap installs uv, with pip beside it."""

MB = 1_000_000

GLIBC = range(17, 40)
"""pip takes a wheel for manylinux_2_N only if that very N is named."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.gpu.pack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--vllm", required=True, metavar="VERSION", help="docs/gpu.md lists the supported versions")
    parser.add_argument("--installed", type=Path, required=True, help="`pip freeze` of the machine with the GPU")
    parser.add_argument("--python", default="3.12", help="Python of that machine (default: %(default)s)")
    parser.add_argument("--megabytes", type=int, default=60, help="largest size of a folder (default: %(default)s)")
    parser.add_argument(
        "--without", action="append", default=[], metavar="NAME", help="a package that the run can do without"
    )
    parser.add_argument(
        "--leave", action="append", default=[], metavar="PATTERN", help="files to leave out of vLLM's wheel"
    )
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="model folder whose tokenizer is packed too")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if list(arguments.folder.iterdir()):
        parser.error(f"{arguments.folder} is not empty")
    installed = read_pins(arguments.installed.read_text())
    resolved = resolve(f"vllm=={arguments.vllm}", installed, arguments.python)
    needed = lacking(resolved, installed, {canonical(name) for name in arguments.without})
    with tempfile.TemporaryDirectory(dir=arguments.folder) as own:
        download(needed, arguments.python, Path(own))
        for wheel in Path(own).glob("vllm-*.whl"):
            print(
                f"{wheel.name}: {omit_files(wheel, tuple(arguments.leave)) / MB:.0f} MB omitted"
                if arguments.leave
                else ""
            )
        pieces = [
            piece for wheel in sorted(Path(own).glob("*.whl")) for piece in split(wheel, arguments.megabytes * MB)
        ]
        folders = distribute(pieces, arguments.folder, arguments.megabytes * MB)
    if arguments.tokenizer:
        bring_tokenizer(arguments.tokenizer, arguments.folder / "00/tokenizer")
    print(f"{len(needed)} packages in {folders} folders of {arguments.folder}: {', '.join(needed)}")


def resolve(requirement: str, installed: Mapping[str, str], python: str) -> dict[str, str]:
    """Name -> version of everything that the requirement needs on that machine; versions stay as they are installed
    where the requirements allow it."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, pins = Path(folder, "wanted.in"), Path(folder, "pins.txt")
        wanted.write_text(requirement)
        pins.write_text("".join(f"{name}=={version}\n" for name, version in installed.items()))  # uv prefers these
        command = [
            str(TOOLS / "uv"),
            "pip",
            "compile",
            "--quiet",
            "--no-header",
            "--no-annotate",
            f"--output-file={pins}",
        ]
        command += [f"--python-version={python}", "--python-platform=x86_64-manylinux_2_39", str(wanted)]
        subprocess.run(command, check=True)
        return read_pins(pins.read_text())


def read_pins(text: str) -> dict[str, str]:
    """Name -> version, of the lines NAME==VERSION; without the part after "+" that says how a package was built."""
    lines = (line.partition(";")[0].strip().partition("==") for line in text.splitlines())
    return {canonical(name): version.partition("+")[0] for name, equal, version in lines if equal}


def canonical(name: str) -> str:
    """The name of a package as registries compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lacking(resolved: Mapping[str, str], installed: Mapping[str, str], without: Iterable[str] = ()) -> dict[str, str]:
    """Name -> version of what must be brought."""
    return {
        name: version
        for name, version in sorted(resolved.items())
        if installed.get(name) != version and name not in set(without)
    }


def download(needed: Mapping[str, str], python: str, target: Path) -> None:
    """Fetch the wheels of exactly these packages, for an x86-64 Linux with this Python."""
    platforms = [f"--platform=manylinux_2_{number}_x86_64" for number in GLIBC]
    platforms += ["--platform=manylinux2014_x86_64", "--platform=manylinux2010_x86_64", "--platform=manylinux1_x86_64"]
    machine = ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *platforms]
    options = ["--no-deps", "--quiet", "--disable-pip-version-check", f"--dest={target}", *machine]
    wanted = [f"{name}=={version}" for name, version in needed.items()]
    subprocess.run([str(TOOLS / "pip"), "download", *options, *wanted], check=True)


def distribute(files: Iterable[Path], target: Path, size: int) -> int:
    """Move the files into folders 00, 01, … of at most `size` bytes each. Returns how many folders there are."""
    folders: list[int] = []
    for file in sorted(files, key=lambda each: -each.stat().st_size):
        length = file.stat().st_size
        number = next((index for index, taken in enumerate(folders) if taken + length <= size), len(folders))
        if number == len(folders):
            folders.append(0)
            (target / f"{number:02}").mkdir()
        folders[number] += length
        file.rename(target / f"{number:02}" / file.name)
    return len(folders)


if __name__ == "__main__":
    main()
