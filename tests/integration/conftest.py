"""The control plane with our CRD, shared by all integration tests; each test has its own namespace."""

import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.pins import ROOT
from cluster.programs.older_kubernetes import chosen_servers
from cluster.programs.redis import found_server
from cluster.tools import HOST, host_tools
from forebay_gateway.jobs.memory_store import MemoryJobStore
from forebay_gateway.jobs.scripts import connect_valkey
from forebay_gateway.jobs.store import JobStore
from tests.integration.audit import keep_log
from tests.integration.bucket_server import BucketServer, running_bucket
from tests.integration.control_plane import ControlPlane, free_ports, start_control_plane
from tests.integration.faulty_proxy import FaultyProxy, kubectl_through, server_of
from tests.integration.gateway_process import Gateway, namespaced_gateway, running_gateway
from tests.integration.operator_probes import leads
from tests.integration.operator_process import give_access, running_operator
from tests.integration.rendered_chart import Helm
from tests.integration.stored_jobs import JOB_STORE_BYTES, opened
from tests.integration.valkey_process import ValkeyServer, running_valkey
from tests.kubectl import Kubectl, wait_for

CRD = ROOT / "crds/inferenceendpoints.forebay.dev.yaml"


@pytest.fixture(scope="session")
def helm(run_cluster: Callable[..., None]) -> Helm:
    run_cluster("tools")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(host_tools() / "helm"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.fixture(scope="session")
def whole_control_plane(
    run_cluster: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    if not HOST.folder.is_dir():
        run_cluster("tools")
    folder = tmp_path_factory.mktemp("control-plane")
    with start_control_plane(host_tools(), folder, CRD, servers=chosen_servers()) as plane:
        yield plane
    keep_log(folder)


@pytest.fixture(scope="session")
def control_plane(whole_control_plane: ControlPlane) -> Kubectl:
    """The access of an administrator."""
    return whole_control_plane.kubectl


@pytest.fixture(scope="session")
def operators_kubectl(control_plane: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """The operator's own access: the service account of the chart, with no more than the chart's ClusterRole."""
    return give_access(control_plane, tmp_path_factory.mktemp("operator-access") / "kubeconfig")


@pytest.fixture(scope="module")
def operator(operators_kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An operator for the whole module, which leads; yields its log."""
    log = tmp_path_factory.mktemp("operator") / "log"
    (port,) = free_ports(1)
    with running_operator(operators_kubectl, log, port=port) as process:
        wait_for(lambda: leads(port), "the operator is leading")
        yield log
        assert process.poll() is None, f"the operator ended:\n{log.read_text()[-2000:]}"
    assert "Traceback" not in log.read_text()


@pytest.fixture
def kubectl(control_plane: Kubectl) -> Kubectl:
    """kubectl in the test's own namespace. It is not deleted, because the control plane ends with the session."""
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    control_plane.run("create", "namespace", namespace)
    return control_plane.within(namespace)


@pytest.fixture(scope="module")
def proxy(control_plane: Kubectl) -> Iterator[FaultyProxy]:
    """A proxy in front of the API server. Tests control its faults."""
    with FaultyProxy(server_of(control_plane)).running() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def access(proxy: FaultyProxy, operators_kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """The operator's access by way of the proxy."""
    return kubectl_through(proxy, operators_kubectl, tmp_path_factory.mktemp("access"))


@pytest.fixture(scope="session")
def valkey_server(run_cluster: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Valkey for all tests. Only the running test uses it."""
    if not found_server():
        run_cluster("redis")
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def bucket_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    """A stand-in for S3 for all tests."""
    with running_bucket(tmp_path_factory.mktemp("bucket")) as server:
        yield server


@pytest.fixture
async def valkey(valkey_server: ValkeyServer) -> AsyncIterator[ValkeyServer]:
    """The Valkey, without data from gateways of other files."""
    client = connect_valkey(valkey_server.url)
    await client.flushall()
    yield valkey_server
    await client.flushall()
    await client.aclose()


@pytest.fixture(params=["memory", "valkey"])
async def store(request: pytest.FixtureRequest, valkey: ValkeyServer) -> AsyncIterator[JobStore]:
    """Each of the two stores of jobs, with nothing in it."""
    if request.param == "memory":
        yield MemoryJobStore(JOB_STORE_BYTES, share=1.0)
        return
    async with opened(valkey) as found:
        yield found


@pytest.fixture(scope="module")
def gateway(control_plane: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway for the whole module."""
    with namespaced_gateway(control_plane, tmp_path_factory.mktemp("gateway") / "log") as running:
        yield running


@pytest.fixture
def impatient_gateway(gateway: Gateway, tmp_path: Path) -> Iterator[Gateway]:
    """A second gateway for the endpoints of `gateway`. It holds requests for 3 s only.

    It ends with its test, because either of the two may get the port of a new endpoint.
    """
    with running_gateway(gateway.kubectl, gateway.system, tmp_path / "log", hold_seconds=3) as running:
        yield running


@pytest.fixture(scope="module", params=["memory", "valkey"])
def keeping_gateway(
    request: pytest.FixtureRequest, control_plane: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway for the module that keeps jobs and files in its memory, and then one that keeps them in Valkey."""
    url = request.getfixturevalue("valkey_server").url if request.param == "valkey" else ""
    with namespaced_gateway(control_plane, tmp_path_factory.mktemp("gateway") / "log", valkey_url=url) as running:
        yield running


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as executor:
        yield executor
