"""Builds the overlay image: /server with the server's files, and /copy, which an init container runs."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cluster import pins, tools
from cluster.steps import StepFailed
from overlay.byte_code import find_interpreters, read_version
from overlay.content import PROJECTS, collect_files
from overlay.oci_archive import ImageArchive, ImageFile, build_layer

FOLDER = Path(__file__).parent
COPY_PROGRAM = FOLDER / "copy"
ARCHITECTURES = ("amd64", "arm64")

GO_FLAGS = ("-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=")
"""Flags that keep the time, the machine and the checkout's state out of the program."""


def build_image(checkout: Path, interpreters: Sequence[Path], programs: Mapping[str, bytes]) -> ImageArchive:
    """Build the image from a checkout, with byte code for these interpreters.

    `programs` has the copy program of each architecture.
    """
    server = {f"server/{name}": ImageFile(each) for name, each in collect_files(checkout, interpreters).items()}
    layers = {
        architecture: build_layer({**server, "copy": ImageFile(program, executable=True)})
        for architecture, program in programs.items()
    }
    minors = " ".join(read_version(each).rpartition(".")[0] for each in interpreters)
    return ImageArchive(layers, ["/copy"], {"dev.forebay.byte-code": minors})


def compile_copy_program(architectures: Iterable[str] = ARCHITECTURES) -> dict[str, bytes]:
    """Compile /copy for each architecture. Raises StepFailed."""
    programs = {}
    with tempfile.TemporaryDirectory() as folder:
        for architecture in architectures:
            target = Path(folder, architecture)
            variables = {"CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": architecture, "GOWORK": "off", "GOFLAGS": ""}
            command = ["go", "-C", str(COPY_PROGRAM), "build", *GO_FLAGS, f"-o={target}", "."]
            env = tools.go_environment() | variables
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                raise StepFailed(f"the overlay's copy program can't be compiled: {done.stderr.strip()[-1000:]}")
            programs[architecture] = target.read_bytes()
    return programs


def make_archive(
    target: Path, reference: str, interpreters: Sequence[Path] = (), architectures: Sequence[str] = ARCHITECTURES
) -> str:
    """Build the image of this checkout and write its archive. Returns the digest.

    `interpreters` defaults to one of each version on this machine.
    """
    image = build_image(pins.ROOT, interpreters or find_interpreters(), compile_copy_program(architectures))
    image.write(target, reference)
    return image.digest


def key() -> str:
    """Return a tag for the image of this checkout. The tag changes with every input of the build on this machine."""
    versions = [read_version(each) for each in find_interpreters()]
    projects = [pins.ROOT / project / name for project in PROJECTS for name in ("pyproject.toml", "src")]
    return pins.key(versions, pins.files(*projects, FOLDER))
