"""What integration and end-to-end tests share."""

import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def run_cluster(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Run a command of cluster/, such as `up`, where a person sees how far it is, as it may take minutes."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def run(*arguments: str) -> None:
        with capture.global_and_fixture_disabled():
            print(flush=True)
            done = subprocess.run([sys.executable, "-m", "cluster", *arguments], check=False)
        assert done.returncode == 0, f"python -m cluster {' '.join(arguments)} failed; its reason stands above"

    return run
