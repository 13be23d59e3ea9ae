"""Images of Go programs that a test runs in the cluster."""

import subprocess
from pathlib import Path

from cluster import archive, kind, pins
from tests.e2e.cluster import NAME as CLUSTER


def load_program(program: Path, folder: Path) -> str:
    """Bring an image that runs a program into the cluster; gives its reference. The folder is for its archive."""
    target = folder / f"{program.name}.tar"
    reference = f"{pins.IMAGE_PREFIX}/{program.name}:{program.parent.name}"
    archive.write(target, reference, program)
    subprocess.run(["docker", "load", "--input", target], check=True, timeout=120)
    kind.load(CLUSTER, [reference])
    return reference
