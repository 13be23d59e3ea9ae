"""A real etcd, kube-apiserver and kube-controller-manager on free loopback ports: Kubernetes without nodes."""

import itertools
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kubectl import Kubectl, Refused, install_crd, wait_for

CONTROLLERS = (
    "deployment-controller,replicaset-controller,garbage-collector-controller,resourcequota-controller,"
    "clusterrole-aggregation-controller,horizontal-pod-autoscaler-controller"
)

AUDIT_POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - {level: Metadata, userGroups: ["system:serviceaccounts"]}
  - {level: None}
"""
"""The API server logs the requests of service accounts, such as the operator's."""


_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_next_port = itertools.count(10_000 + 1_000 * _WORKER)
"""Each worker of pytest-xdist has its own thousand ports, below those that Linux gives to clients (from 32768 on)
and those that the operator gives to endpoints (from 20000 on)."""

_next_gateway_port = itertools.count(25_000 + 500 * _WORKER)
"""The same for endpoints at a gateway: an operator on the same control plane gives the lower ones."""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that are free and were not given before."""
    return list(itertools.islice(filter(is_free, _next_port), count))


def free_gateway_port() -> int:
    """A port that the gateway accepts as an endpoint's."""
    return next(filter(is_free, _next_gateway_port))


def is_free(port: int) -> bool:
    """Whether a port is free on every address."""
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("", port))
        except OSError:
            return False
    return True


@contextmanager
def running(log: Path, *command: str | Path, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program beside the tests, its output in a log, and end it afterwards."""
    arguments = list(map(str, command))
    with log.open("ab") as output, subprocess.Popen(arguments, stdout=output, stderr=output, env=env) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


class ApiServer:
    """kube-apiserver, which may be killed and started again on its port; its objects are in etcd."""

    def __init__(self, kubectl: Kubectl, log: Path, command: Sequence[str | Path]) -> None:
        self._kubectl = kubectl
        self._log = log
        self._command = command
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self._process = self._stack.enter_context(running(self._log, *self._command))
        wait_for(self._is_ready, "the API server is ready", timeout=60)

    def kill(self) -> None:
        """End it at once, with all connections."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """End it in order."""
        self._stack.close()

    def _is_ready(self) -> bool:
        assert self._process
        assert self._process.poll() is None, f"kube-apiserver ended:\n{self._log.read_text()[-2000:]}"
        try:
            self._kubectl.run("get", "--raw", "/readyz")
        except Refused:
            return False
        return self._kubectl.get("namespace", "default") is not None


@dataclass(frozen=True)
class ControlPlane:
    """An administrator's access, and the API server behind it."""

    kubectl: Kubectl
    api_server: ApiServer


@contextmanager
def start_control_plane(
    tools: Path,
    folder: Path,
    crd: Path | None,
    *,
    servers: Path | None = None,
    controllers: str = CONTROLLERS,
    api_server_flags: tuple[str, ...] = (),
    controller_flags: tuple[str, ...] = (),
) -> Iterator[ControlPlane]:
    """Start the three, with a CRD if one is given, and wait until they are ready. `servers` has kube-apiserver and
    kube-controller-manager, if they are not those of `tools`.

    The CRD comes before the controllers, since the garbage collector looks for new kinds only every 30 s.
    """
    client_port, peer_port, api_port = free_ports(3)
    etcd_url, peer_url = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], check=True, capture_output=True)
    kubeconfig = _write_kubeconfig(folder / "kubeconfig", f"https://127.0.0.1:{api_port}", token)
    kubectl = Kubectl(tools / "kubectl", kubeconfig)
    policy = folder / "audit-policy.yaml"
    policy.write_text(AUDIT_POLICY)
    etcd: tuple[str | Path, ...] = (
        tools / "etcd", "--data-dir", folder / "etcd", "--unsafe-no-fsync",
        "--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url,
        "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url,
        "--initial-cluster", f"default={peer_url}",
    )  # fmt: skip
    api_server: tuple[str | Path, ...] = (
        (servers or tools) / "kube-apiserver", "--etcd-servers", etcd_url, "--bind-address", "127.0.0.1",
        "--secure-port", str(api_port), "--cert-dir", folder / "certs", "--service-cluster-ip-range", "10.97.0.0/16",
        "--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", folder / "sa.key",
        "--service-account-signing-key-file", folder / "sa.key", "--token-auth-file", folder / "tokens.csv",
        "--authorization-mode", "RBAC", "--disable-admission-plugins", "ServiceAccount",
        "--audit-policy-file", policy, "--audit-log-path", folder / "audit.log", *api_server_flags,
    )  # fmt: skip
    controller_manager: tuple[str | Path, ...] = (
        (servers or tools) / "kube-controller-manager", "--kubeconfig", kubeconfig, "--leader-elect=false",
        "--secure-port", "0", "--controllers", controllers, "--service-account-private-key-file", folder / "sa.key",
        "--horizontal-pod-autoscaler-sync-period=1s", *controller_flags,
    )  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(running(folder / "etcd.log", *etcd))
        server = ApiServer(kubectl, folder / "apiserver.log", api_server)
        stack.callback(server.end)
        server.start()
        if crd:
            install_crd(kubectl, crd, crd.stem)
        stack.enter_context(running(folder / "controllers.log", *controller_manager))
        yield ControlPlane(kubectl, server)


def _write_kubeconfig(path: Path, server: str, token: str) -> Path:
    path.write_text(
        f"""apiVersion: v1
kind: Config
current-context: test
clusters: [{{name: test, cluster: {{server: "{server}", insecure-skip-tls-verify: true}}}}]
users: [{{name: admin, user: {{token: "{token}"}}}}]
contexts: [{{name: test, context: {{cluster: test, user: admin}}}}]
"""
    )
    return path
