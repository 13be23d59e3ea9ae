"""This machine's apt: which archives it uses, and installing what is missing."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.steps import StepFailed, step

_installing = threading.Lock()
"""Steps run side by side, but apt lets only one of them in."""


@dataclass(frozen=True)
class Source:
    """A Debian archive with main packages, as apt's configuration names it."""

    uri: str
    suite: str


def sources(texts: Iterable[str]) -> list[Source]:
    """The archives with main packages in the texts of sources.list (one line each) and *.sources files (deb822)."""
    found = []
    for text in texts:
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        for line in lines:
            one = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)", line)
            if one and "main" in one[3].split():
                found.append(Source(one[1], one[2]))
        for stanza in "\n".join(lines).split("\n\n"):
            fields = dict(re.findall(r"^([A-Za-z-]+):\s*(.*(?:\n[ \t]+.*)*)", stanza, re.MULTILINE))
            if "deb" in fields.get("Types", "").split() and "main" in fields.get("Components", "").split():
                uris, suites = fields.get("URIs", "").split(), fields.get("Suites", "").split()
                found += [Source(uri, suite) for uri in uris for suite in suites]
    return found


def of_release(found: Iterable[Source], release: str) -> list[Source]:
    """The archives of one release, its own first, then its updates and security archives."""
    own = [source for source in found if source.suite.split("-")[0] == release]
    return sorted(own, key=lambda source: source.suite != release)


def configured(release: str) -> list[Source]:
    """The archives of this machine's apt for a Debian release; empty on another distribution."""
    etc = Path("/etc/apt")
    paths = [
        etc / "sources.list",
        *sorted(etc.glob("sources.list.d/*.list")),
        *sorted(etc.glob("sources.list.d/*.sources")),
    ]
    found = of_release(sources(path.read_text() for path in paths if path.is_file()), release)
    return [Source(plain(source.uri), source.suite) for source in found]


def plain(uri: str) -> str:
    """A URI that debootstrap accepts: for a local mirror list (mirror+file:/…) the first entry."""
    if not uri.startswith("mirror+file:"):
        return uri
    listed = Path("/" + uri.removeprefix("mirror+file:").lstrip("/")).read_text()
    return next(line.split()[0] for line in listed.splitlines() if line.strip() and not line.startswith("#"))


def need(programs: Mapping[str, Sequence[str]], why: str) -> None:
    """Make sure that programs are there: {program or path of a file: the Debian packages that bring it}.

    Installs what is missing with apt as root; otherwise raises StepFailed that says what to install.
    """
    with _installing:
        missing = [names for program, names in programs.items() if not is_there(program)]
        if missing:
            install(sorted({name for names in missing for name in names}), why)


def is_there(program: str) -> bool:
    """Whether a program is on PATH, or a file at its path."""
    return bool(shutil.which(program)) or Path(program).is_file()


def install(packages: Sequence[str], why: str) -> None:
    """Install packages with apt as root. Raises StepFailed that says what to install if that can't be."""
    listed = " ".join(packages)
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise StepFailed(
            f"{why} needs programs that are not here", f"install {listed} (by their Debian names), run again"
        )
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"installing {listed} with apt", "apt-get update && apt-get install " + listed) as installing:
        installing.run(["apt-get", "-q", "update"], env=env)
        installing.run(["apt-get", "-qy", "install", "--no-install-recommends", *packages], env=env)
