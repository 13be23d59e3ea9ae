"""The release that the upgrade test begins from: the commit that upgrade-from names, its chart and its images."""

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from cluster.pins import ROOT

UPGRADE_FROM = ROOT / "tests/e2e/upgrade-from"


@dataclass(frozen=True)
class Release:
    """A commit as its users have it.

    Attributes:
        trouble: why the release is missing, with a remedy; "" if it exists.
        images: references by name, of its operator and its server with canned answers.
    """

    chart: Path
    images: dict[str, str] = field(default_factory=dict)
    trouble: str = ""


def read_release(folder: Path) -> Release:
    """Unpack the commit into a folder and build its images with the current bases, cluster/ and overlay/, because
    the upgrade is of Forebay, not of vLLM. The engine keeps them by their hash."""
    commit = UPGRADE_FROM.read_text().strip()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        said = archive.stderr.decode().strip()
        remedy = f"git fetch origin {commit}, or git fetch --unshallow"
        return Release(folder, trouble=f"this clone lacks the commit that {UPGRADE_FROM} names ({said}): {remedy}")
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    for current in ("cluster", "overlay"):
        shutil.rmtree(folder / current, ignore_errors=True)
        shutil.copytree(ROOT / current, folder / current, symlinks=True)
    # no cluster has that name, so the images are built and not loaded
    command = [sys.executable, "-m", "cluster", "images", "--name=release", "operator", "server-canned"]
    made = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    if made.returncode:
        return Release(folder, trouble=f"the images of {commit} could not be made, see above")
    listed = dict(line.split("\t") for line in made.stdout.splitlines())
    return Release(folder / "charts/forebay", {name: listed[name] for name in ("operator", "server-canned")})
