"""`make demo` shows the main job, and run again it changes nothing that is right."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.pins import ROOT
from examples.demo import ENDPOINT
from tests.e2e.cluster import NAME
from tests.e2e.forebay import SYSTEM, helm
from tests.endpoints import wait_for_no_children
from tests.kubectl import Kubectl

pytestmark = pytest.mark.installs


@pytest.fixture
def demo(cluster: Kubectl) -> Iterator[Kubectl]:
    """The cluster and the namespace of the demo; its objects are deleted afterwards."""
    default = cluster.within("default")
    yield default
    default.delete("iep", ENDPOINT)
    wait_for_no_children(default, ENDPOINT)


def test_the_demo_answers_and_a_second_run_changes_nothing(demo: Kubectl) -> None:
    check_answers(run_demo())
    before = versions(demo)
    check_answers(run_demo())
    assert versions(demo) == before


def check_answers(printed: str) -> None:
    """The question was answered in a stream, and as a job."""
    streamed, ended, job = printed.partition("COMPLETED: ")
    assert ended, printed
    assert "Paris" in streamed
    assert "Paris" in job.splitlines()[0]


def run_demo() -> str:
    """The standard output of the demo, which includes the answer."""
    command = [sys.executable, "-m", "examples.demo", "--name", NAME]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout


def versions(kubectl: Kubectl) -> dict[str, Any]:
    """The revision of the release, and what the demo has in the cluster: its metadata without what a status write of a
    controller changes, which may come late on a busy machine."""
    found: dict[str, Any] = {"release": json.loads(helm(kubectl, "status", "forebay", "--output=json"))["version"]}
    objects = [(kubectl, kind, ENDPOINT) for kind in ("iep", "deployment", "service")]
    system = [("deployment", "forebay"), ("statefulset", "forebay-valkey"), ("secret", "forebay-valkey")]
    objects += [(kubectl, "secret", f"{ENDPOINT}-api-key"), *((kubectl.within(SYSTEM), *each) for each in system)]
    for within, kind, name in objects:
        each = within.get(kind, name)
        assert each is not None, f"the demo left no {kind} {name}"
        metadata = each["metadata"]
        version = metadata.get("generation", metadata["resourceVersion"])
        found[f"{kind} {name}"] = version, metadata.get("labels"), metadata.get("annotations")
    return found
