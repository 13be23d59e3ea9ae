"""A real kind cluster with Forebay installed by Helm, and a pod with the official clients.

The cluster is made for the session and taken away after it; KEEP_CLUSTER=1 leaves it up for the next run.
"""

import json
import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from cluster import kind, tools
from tests.e2e.forebay import Clients, client_pod, install_chart
from tests.e2e.release import Release, read_release
from tests.e2e.standins import stand_in
from tests.kubectl import Kubectl

NAME = "forebay-e2e"

REGISTRY = "127.0.0.1:5000"
"""Where the stand-in for a registry is, for the kubelet."""


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The release that an upgrade begins from, with its images made."""
    return read_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="session")
def cluster(run_cluster: Callable[..., None], release: Release) -> Iterator[Kubectl]:
    """The cluster with all images loaded, also those of the release before, where there is one."""
    run_cluster("up", "--images", "--tests", "--name", NAME, *(f"--also={name}" for name in release.images.values()))
    yield Kubectl(tools.host_tools() / "kubectl", kind.kubeconfig(NAME))
    if not os.environ.get("KEEP_CLUSTER"):
        run_cluster("down", "--name", NAME)


@pytest.fixture(scope="session")
def installed(cluster: Kubectl) -> Kubectl:
    """The cluster with the chart of this checkout installed."""
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
def clients(cluster: Kubectl) -> Clients:
    """A pod with the official Python and JavaScript clients, in a namespace of its own."""
    within = cluster.within("clients")
    if within.get("namespace", "clients") is None:
        within.run("create", "namespace", "clients")
    within.run("apply", "-f", "-", stdin=json.dumps(client_pod()))
    within.run("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
    return Clients(within)


@pytest.fixture(scope="session")
def registry(clients: Clients) -> Iterator[None]:
    """A registry that has no image, beside the kubelet."""
    with stand_in(clients.pod, "registry", "5000", ports=(5000,), on_node=True):
        yield
