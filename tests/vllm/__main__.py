"""Run tests/vllm in the image that has vLLM, without network: `python -m tests.vllm [pytest's arguments]`.

Without arguments all of tests/vllm runs. $JUNIT_FILE names a file on this machine for pytest's results.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cluster.images import reference
from cluster.pins import ROOT

WITHIN = "/forebay"
RESULTS = "/results"


def main(arguments: list[str]) -> int:
    """Make the image where it is missing and run pytest in it; returns the exit code."""
    made = subprocess.run(
        [sys.executable, "-m", "cluster", "images", "vllm-tests"], stdout=subprocess.DEVNULL, check=False
    )
    if made.returncode:
        return made.returncode
    with tempfile.TemporaryDirectory() as folder:
        status = subprocess.run(container(folder, arguments), check=False).returncode
        junit, wanted = Path(folder, "junit.xml"), os.environ.get("JUNIT_FILE")
        if wanted and junit.is_file():
            shutil.copyfile(junit, wanted)
    return status


def container(results: str, arguments: list[str]) -> list[str]:
    """The docker command that runs pytest on this checkout, as the calling user."""
    # End-to-end tests may run beside it; they need the processor at once, this only in the end.
    isolated = [
        "--network=none",
        "--cpu-shares=256",
        "--shm-size=1g",
        f"--user={os.getuid()}:0",
        "--tmpfs=/tmp:exec,mode=1777",
    ]
    variables = ["--env=HOME=/tmp", "--env=PYTHONDONTWRITEBYTECODE=1"]
    volumes = [f"--volume={ROOT}:{WITHIN}:ro", f"--volume={results}:{RESULTS}", f"--workdir={WITHIN}"]
    options = ["-v", "--color=no", "-p", "no:cacheprovider", "--durations=10", f"--junitxml={RESULTS}/junit.xml"]
    paths = [] if any(Path(ROOT, each.partition("::")[0]).exists() for each in arguments) else ["tests/vllm"]
    program = ["--entrypoint=python3", reference("vllm-tests"), "-m", "pytest", *options, *paths, *arguments]
    return ["docker", "run", "--rm", "--init", *isolated, *variables, *volumes, *program]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
