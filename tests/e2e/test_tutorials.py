"""The tutorial on kind, followed to the letter: its commands in one shell, in their order."""

import subprocess
from collections.abc import Iterator

import pytest

from cluster import kind
from cluster.pins import ROOT
from examples import demo
from tests.e2e.cluster import NAME
from tests.endpoints import wait_for_no_children
from tests.kubectl import Kubectl
from tests.lint.pages import read_blocks

pytestmark = pytest.mark.installs

TUTORIAL = ROOT / "docs/tutorials/first-endpoint-on-kind.md"

WAIT_FOR_PORT = """
until { exec 3<>/dev/tcp/127.0.0.1/8000; } 2>/dev/null; do sleep 0.2; done
"""
"""A reader is slower than `kubectl port-forward`; a script is not."""


@pytest.fixture
def after_the_demo(cluster: Kubectl) -> Iterator[Kubectl]:
    """The cluster and the namespace of the tutorial, with the chart as `make demo` installs it."""
    demo.install(kind.environment(NAME))
    default = cluster.within("default")
    yield default
    for name in ("mine", "broken"):
        default.delete("iep", name)
        wait_for_no_children(default, name)
    default.delete("secret", "hf")


def test_the_tutorial_on_kind_works_as_it_is(after_the_demo: Kubectl) -> None:
    here = f"tested by tests/e2e/test_tutorials.py::{test_the_tutorial_on_kind_works_as_it_is.__name__}"
    blocks = [block.content for block in read_blocks(TUTORIAL.read_text()) if block.comment == here]
    assert len(blocks) > 5
    script = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for block in blocks:
        script += [block, *([WAIT_FOR_PORT] if "port-forward" in block else [])]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=ROOT,
        env=after_the_demo.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.count("Paris") >= 4, "curl, the client, the client again at zero, and the job"
    assert 'secret "hf" not found' in done.stdout
