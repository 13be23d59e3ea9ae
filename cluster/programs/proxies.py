"""nginx and HAProxy for the tests of reverse proxies: Debian's packages, unpacked into the cache. Installing them would
start services on this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster import pins
from cluster.steps import StepFailed, step

PACKAGES = {
    "nginx": ("nginx",),
    "haproxy": ("haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"),
}


@dataclass(frozen=True)
class Program:
    """A program, and the environment with which the program finds its libraries."""

    path: Path
    environment: Mapping[str, str]


def find(name: str) -> Program:
    """Find nginx or haproxy on this machine, else in the cache. If the cache lacks it, unpack it there. Raises
    StepFailed."""
    if installed := shutil.which(name):
        return Program(Path(installed), dict(os.environ))
    folder = pins.cache() / "proxies" / name
    if not folder.is_dir():
        unpack(name, folder)
    libraries = {str(path.parent) for path in folder.rglob("*.so*")}
    environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(sorted(libraries))}
    return Program(folder / "usr/sbin" / name, environment)


def unpack(name: str, folder: Path) -> None:
    """Get the packages with apt, and unpack them into a folder that is not there yet."""
    packages = PACKAGES[name]
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise StepFailed(f"tests of proxies need {name}, which is not here", f"install {name}, run again")
    making = folder.with_name(f"{name}.part")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    with step(f"unpacking Debian's {name}", f"apt-get download {' '.join(packages)}") as running:
        if os.geteuid() == 0:
            running.run(["apt-get", "-q", "update"])
        running.run(["apt-get", "-q", "download", *packages], cwd=making)
        for archive in making.glob("*.deb"):
            running.run(["dpkg-deb", "--extract", archive, making / "root"])
    (making / "root").rename(folder)
    shutil.rmtree(making)
