"""A Debian base image, made from Debian's archive where no registry can be reached."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from cluster import apt, docker, pins
from cluster.steps import Step, StepFailed, step

PACKAGES = ("ca-certificates",)
"""What the base image has besides Debian's minimal set."""

EMPTIED = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
)
"""What debootstrap leaves and no program in an image needs."""

AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
"""The machine's list of certificate authorities, in Debian's place for it; other systems need not have it."""

SLIM = """\
path-exclude /usr/share/doc/*
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-include /usr/share/locale/locale.alias
"""
"""What dpkg leaves out of the images, as Debian's own slim image does."""

_making = threading.Lock()


def reference() -> str:
    """The name of the base image that `image` makes: another when this machine's archives or authorities change."""
    made_of = [pins.DEBIAN, *map(str, apt.configured(pins.DEBIAN)), authorities()]
    return f"{pins.IMAGE_PREFIX}/debian:{pins.key(made_of, [Path(__file__)])}"


def authorities() -> str:
    """The machine's list of certificate authorities; empty if it keeps none in Debian's place."""
    return AUTHORITIES.read_text() if AUTHORITIES.is_file() else ""


def image() -> str:
    """The Debian base image, made with debootstrap when the engine does not have it; returns its reference.

    It carries the machine's own list of certificate authorities, if there is one, so that whatever registries the
    machine reaches are reached from builds as well.
    """
    with _making:
        if not docker.has(reference()):
            make()
    return reference()


def make() -> None:
    """Make the base image."""
    apt.need({"debootstrap": ["debootstrap"]}, "a Debian base image")
    if os.geteuid() != 0:
        raise StepFailed(
            "debootstrap needs root, and no base image can be pulled", "run as root, or where images can be pulled"
        )
    remedy = "check that the Debian archive in /etc/apt can be reached: apt-get update"
    with step(f"making a Debian {pins.DEBIAN} base image", remedy) as making, tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        install(making, root, apt.configured(pins.DEBIAN))
        tar = Path(folder, "root.tar")
        making.run(["tar", "-C", root, "--numeric-owner", "--create", "--file", tar, "."])
        making.run(["docker", "import", "--change", 'CMD ["bash"]', tar, reference()])


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
    if AUTHORITIES.is_file():
        shutil.copyfile(AUTHORITIES, root / AUTHORITIES.relative_to("/"))
    for path in EMPTIED:
        for entry in (root / path).iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for name in ("etc/resolv.conf", "etc/hostname"):
        (root / name).unlink(missing_ok=True)
