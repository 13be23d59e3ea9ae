"""Builds the overlay image as an archive: `python3 -m overlay --help`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cluster.steps import StepFailed
from overlay.byte_code import find_interpreters, read_version
from overlay.image import ARCHITECTURES, make_archive

EPILOG = """\
The digest depends only on server/, protocol/, overlay/ and the versions of Go and Python.

To push the image with that digest:   skopeo copy --all oci-archive:FILE docker://NAME:TAG
To load it into a docker engine:      docker load --input FILE
"""


def main() -> int:
    """Write the archive, and print the image's digest. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m overlay",
        description="Build the image of Forebay's server without vLLM, for all architectures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="archive to write, such as forebay-server.tar")
    parser.add_argument("--name", default="forebay-server:latest", help="name and tag (default: %(default)s)")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        type=Path,
        metavar="PROGRAM",
        help="add byte code for this Python; may be repeated (default: each version on this machine)",
    )
    arguments = parser.parse_args()
    interpreters = arguments.python or find_interpreters()
    versions = ", ".join(map(read_version, interpreters)) or "no Python"
    print(f"byte code for {versions}; architectures {', '.join(ARCHITECTURES)}", file=sys.stderr)
    try:
        print(make_archive(arguments.file, arguments.name, interpreters))
    except StepFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
