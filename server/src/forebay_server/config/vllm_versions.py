"""The versions of vLLM that the server runs with. The start checks the version of the image.

`python -m forebay_server.config.vllm_versions` writes the table of docs/server-images.md.
"""

import re
from dataclasses import dataclass
from typing import Literal

from forebay_server.failure import Failure, StartError

Minor = tuple[int, int]
"""The first two numbers of a version."""


@dataclass(frozen=True)
class VersionRange:
    """Versions of vLLM from `first` to `last`, both inclusive."""

    first: Minor
    last: Minor
    support: Literal["tested", "untested", "refused"]
    evidence: str
    """The evidence that these versions work: tests and measurements."""


VERSIONS = (
    VersionRange(
        (0, 0), (0, 25), "refused", "no entry-point group `vllm.endpoint_plugins`, so the server cannot add routes"
    ),
    VersionRange((0, 26), (0, 26), "tested", "tests set every flag; every part of `make gpu` ran on a CPU"),
    VersionRange(
        (0, 27),
        (0, 31),
        "untested",
        "tests set every flag; the modules that the server uses exist; no server was started",
    ),
    VersionRange((0, 32), (0, 32), "tested", "all tests run with it; the chart's default"),
    VersionRange((0, 33), (0, 33), "untested", "tests set every flag; no server was started"),
)
"""All versions up to the newest version that was examined. Newer versions are untested."""

STARTS = {
    "tested": "The server starts.",
    "untested": "The check lets the server start, with a warning in its log.",
    "refused": "The start fails with the reason `UnsupportedVLLM`.",
}

VERSION_REMEDY = "Set spec.image to an image of a supported version of vLLM: docs/server-images.md lists them."


def check_version(version: str) -> str:
    """Check the version of the installed vLLM, such as "0.32.0+cpu"; "" if there is no vLLM.

    Returns a warning, or "" for a tested version. Raises StartError if the version cannot work, or without vLLM.
    """
    if not version:
        raise StartError(Failure("NoVLLM", "The image has no vLLM.", VERSION_REMEDY))
    match = re.match(r"v?(\d+)\.(\d+)", version)
    if not match:
        return f"The version of vLLM, {version!r}, is not known. {_name_tested()}"
    minor = int(match[1]), int(match[2])
    support = next((each.support for each in VERSIONS if each.first <= minor <= each.last), "untested")
    if support == "refused":
        oldest = ".".join(map(str, min(each.first for each in VERSIONS if each.support != "refused")))
        message = f"The image has vLLM {version}, and the server needs {oldest} or later."
        raise StartError(Failure("UnsupportedVLLM", message, VERSION_REMEDY))
    return f"vLLM {version} was not tested with this server. {_name_tested()}" if support == "untested" else ""


def _name_tested() -> str:
    tested = [_show(each) for each in VERSIONS if each.support == "tested"]
    return f"Tested versions: {', '.join(tested)}."


def render_versions() -> str:
    """Render the versions as a Markdown table."""
    rows = ["| vLLM | start | evidence |", "|---|---|---|"]
    rows += [f"| {_show(each)} | {STARTS[each.support]} | {each.evidence} |" for each in VERSIONS]
    rows.append(f"| later | {STARTS['untested']} | nothing |")
    return "\n".join(rows) + "\n"


def _show(versions: VersionRange) -> str:
    first, last = (".".join(map(str, each)) for each in (versions.first, versions.last))
    if versions.first == (0, 0):
        return f"up to {last}"
    return first if first == last else f"{first} to {last}"


if __name__ == "__main__":
    print(render_versions(), end="")
