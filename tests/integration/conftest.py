"""The control plane with our CRD, shared by all integration tests; each test has a namespace of its own."""

import uuid
from collections.abc import Iterator

import pytest
from cluster.pins import ROOT
from cluster.tools import host_tools
from tests.integration.control_plane import start_control_plane
from tests.kubectl import Kubectl

CRD = ROOT / "crds/inferenceendpoints.forebay.dev.yaml"


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with start_control_plane(host_tools(), tmp_path_factory.mktemp("control-plane"), CRD) as kubectl:
        yield kubectl


@pytest.fixture
def kubectl(control_plane: Kubectl) -> Kubectl:
    """kubectl in a namespace of the test's own. It stays behind, as the whole control plane goes with the session."""
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    control_plane.run("create", "namespace", namespace)
    return control_plane.within(namespace)
