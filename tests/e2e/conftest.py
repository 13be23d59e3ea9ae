"""A real kind cluster with Forebay installed by Helm, and a pod with the official clients.

`python -m tests.run` creates the cluster before the tests and removes it after them. pytest alone creates it if it is
missing, and keeps it.
"""

import fcntl
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from cluster import kind, tools
from tests.e2e.cluster import NAME
from tests.e2e.forebay import SYSTEM, Clients, client_pod, install_chart
from tests.e2e.release import Release, read_release
from tests.e2e.standins import run_helper
from tests.kubectl import Kubectl, Refused

REGISTRY = "127.0.0.1:5000"
"""The address of the stand-in for a registry, for the kubelet."""

MAX_LINES = 150
"""The number of log lines shown beside a failure."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show beside a failure what the operator and the gateways had to say."""
    report = yield
    if report.failed:
        report.sections.append(("Forebay's log", read_troubles()))
    return report


def read_troubles() -> str:
    """The logs of the installation's pods in the last ten minutes, without harmless lines."""
    system = Kubectl(tools.host_tools() / "kubectl", kind.kubeconfig(NAME), SYSTEM)
    try:
        text = system.run("logs", "--selector=app.kubernetes.io/instance", "--prefix", "--since=10m", "--tail=-1")
    except (Refused, OSError, subprocess.TimeoutExpired) as error:
        return f"not to be had: {error}"
    return "\n".join([line for line in text.splitlines() if " INFO " not in line][-MAX_LINES:])


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The release that an upgrade begins from, with its images made."""
    return read_release(tmp_path_factory.mktemp("release"))


@contextmanager
def one_worker_at_a_time(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the other workers of this run wait while the context lasts."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """The cluster with all images loaded, including those of the earlier release, if there is one."""
    if not os.environ.get("FOREBAY_E2E_READY"):
        with one_worker_at_a_time(tmp_path_factory):
            command = [sys.executable, "-m", "tests.e2e.cluster", "up"]
            if subprocess.run(command, check=False).returncode:
                pytest.exit(f"{' '.join(command)} failed, see above", returncode=1)
    return Kubectl(tools.host_tools() / "kubectl", kind.kubeconfig(NAME))


@pytest.fixture(scope="session")
def installed(cluster: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """The cluster with the chart of this checkout installed."""
    with one_worker_at_a_time(tmp_path_factory):
        install_chart(cluster)
    return cluster


@pytest.fixture(scope="module")
def kubectl(installed: Kubectl) -> Iterator[Kubectl]:
    """kubectl in a namespace of the module's own, in which the restricted Pod Security Standard is enforced."""
    namespace = f"e2e-{uuid.uuid4().hex[:8]}"
    installed.run("create", "namespace", namespace)
    installed.run("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    yield installed.within(namespace)
    installed.run("delete", "namespace", namespace, "--wait=false")


@pytest.fixture(scope="session")
def clients(cluster: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Clients:
    """A pod with the official Python and JavaScript clients, in its own namespace."""
    within = cluster.within("clients")
    with one_worker_at_a_time(tmp_path_factory):
        if within.get("namespace", "clients") is None:
            within.run("create", "namespace", "clients")
        within.run("apply", "-f", "-", stdin=json.dumps(client_pod()))
        within.run("wait", "--for=condition=Ready", "pod/client", "--timeout=180s")
    return Clients(within)


@pytest.fixture(scope="session")
def registry(clients: Clients) -> Iterator[None]:
    """A registry that has no image, beside the kubelet."""
    with run_helper(clients.pod, "registry", "5000", ports=(5000,), on_node=True):
        yield
