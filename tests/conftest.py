"""What all kinds of tests share."""

import subprocess
import sys
from collections import deque
from collections.abc import Callable

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file on one worker of pytest-xdist, with those of other files that name the same group.

    A group is what the tests share on this machine. Tests with the marker `independent` go wherever a worker is free.
    """
    for item in items:
        if not (item.get_closest_marker("xdist_group") or item.get_closest_marker("independent")):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session")
def run_cluster(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Run a command of cluster/, such as `up`, where a person sees how far it is, as it may take minutes.

    When it fails, no test that needs the cluster can run, so the session ends with the command's last words.
    """
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def run(*arguments: str) -> None:
        command = [sys.executable, "-m", "cluster", *arguments]
        words: deque[str] = deque(maxlen=20)
        with capture.global_and_fixture_disabled():
            print(flush=True)
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
                for line in process.stderr or ():
                    print(line, end="", file=sys.stderr, flush=True)
                    words.append(line)
        if process.returncode:
            pytest.exit(f"python -m cluster {' '.join(arguments)}:\n{''.join(words)}", returncode=1)

    return run
