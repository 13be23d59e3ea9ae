"""The cluster of the end-to-end tests, with their images: `python -m tests.e2e.cluster up`, and `down` afterwards.

KEEP_CLUSTER=1 leaves it up for the next run.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.e2e.release import read_release

NAME = "forebay-e2e"


def up() -> int:
    """Make the cluster with all images loaded, also those of the release before. Returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        release = read_release(Path(folder))
    also = [f"--also={image}" for image in release.images.values()]
    return cluster("up", "--images", "--tests", "--name", NAME, *also)


def down() -> int:
    """Remove the cluster, unless KEEP_CLUSTER is set. Returns the exit code."""
    return 0 if os.environ.get("KEEP_CLUSTER") else cluster("down", "--name", NAME)


def cluster(*arguments: str) -> int:
    """Run a command of cluster/ and return its exit code."""
    return subprocess.run([sys.executable, "-m", "cluster", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit({"up": up, "down": down}[sys.argv[1]]())
