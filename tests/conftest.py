"""Fixtures and options of all kinds of tests."""

import gc
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def collect_garbage() -> Iterator[None]:
    """Make an unclosed connection fail the file that left it, not a later one."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def run_cluster(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Run a command of cluster/, such as `up`, with visible progress, as it may take minutes.

    When it fails, no test that needs the cluster can run, so the session ends with the command's last output.
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
