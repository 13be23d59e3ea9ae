"""Lists the files of the repository, for the checks of links and of words."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from cluster.pins import ROOT


def list_files(names: Sequence[str] = ()) -> list[str]:
    """The paths of the files that git tracks, and of new ones that it does not ignore.

    Args:
        names: files and folders. With names, only those files and the files below those folders are listed.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *names]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]
