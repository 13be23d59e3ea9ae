"""A Debian base image, made from Debian's archive where no registry can be reached."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cluster import apt, docker, pins
from cluster.steps import Step, StepFailed, step

PACKAGES = ("ca-certificates",)
"""What the base image has besides Debian's minimal set."""

AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
"""The machine's list of certificate authorities, in Debian's place for it."""

SLIM = """\
path-exclude /usr/share/doc/*
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-include /usr/share/locale/locale.alias
"""
"""What dpkg leaves out of the images, as Debian's own slim image does."""


def image() -> str:
    """The reference of the Debian base image; made with debootstrap when the engine does not have it.

    It carries the machine's own list of certificate authorities, so that whatever registries the machine reaches
    are reached from builds as well.
    """
    archives = apt.configured(pins.DEBIAN)
    made_of = [pins.DEBIAN, SLIM, *PACKAGES, *map(str, archives), AUTHORITIES.read_text()]
    reference = f"{pins.IMAGE_PREFIX}/debian:{pins.key(made_of, [Path(__file__)])}"
    if docker.has(reference):
        return reference
    apt.need({"debootstrap": ["debootstrap"]}, "a Debian base image")
    if os.geteuid() != 0:
        raise StepFailed("debootstrap needs root, and no base image can be pulled", "run as root, or where images can be pulled")
    remedy = "see that the Debian archive in /etc/apt can be reached: apt-get update"
    with step(f"making a Debian {pins.DEBIAN} base image", remedy) as making, tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        install(making, root, archives)
        with subprocess.Popen(["tar", "-C", root, "--numeric-owner", "-c", "."], stdout=subprocess.PIPE) as tar:
            making.run(["docker", "import", "--change", 'CMD ["bash"]', "-", reference], stdin=tar.stdout)
    return reference


def install(making: Step, root: Path, archives: Sequence[apt.Source]) -> None:
    """Fill `root` with the minimal system, apt ready to add to it."""
    mirror = [archives[0].uri] if archives else []
    # In a mount namespace of its own: the /proc that debootstrap mounts there can't outlive it.
    private = ["unshare", "--mount", "debootstrap"]
    making.run([*private, "--variant=minbase", f"--include={','.join(PACKAGES)}", pins.DEBIAN, root, *mirror])
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(SLIM)
    if archives:
        lines = [f"deb {source.uri} {source.suite} main\n" for source in archives]
        (root / "etc/apt/sources.list").write_text("".join(lines))
    shutil.copyfile(AUTHORITIES, root / AUTHORITIES.relative_to("/"))
    for path in ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "var/lib/apt/lists", "var/cache/apt"):
        for entry in (root / path).iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for name in ("etc/resolv.conf", "etc/hostname"):
        (root / name).unlink(missing_ok=True)
