"""The gateway as a separate process, with the objects that the operator would have written for it."""

import base64
import hashlib
import hmac
import json
import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import openai

from tests.endpoints import endpoint
from tests.integration.bucket_server import BUCKET
from tests.integration.canned_pod import CannedPod
from tests.integration.control_plane import free_gateway_port, free_ports, running
from tests.integration.operator_process import give_chart_access
from tests.kubectl import Kubectl, Manifest, wait_for

DIGEST_KEY = b"0123456789abcdef0123456789abcdef"
KEY = "fb_the-key-of-the-tests"
MODEL = "org/model"

LIMITS = {
    "hold_seconds": 60,
    "patience_seconds": 0.6,
    "heartbeat_seconds": 0.2,
    "head_seconds": 1,
    "body_seconds": 1,
    "held_per_endpoint": 4,
    "drain_seconds": 10,
    "webhook_networks": "127.0.0.0/8",
}
"""Short, so that the tests are; and webhooks may lead to them."""

HEADLESS = {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}


@dataclass
class Gateway:
    """A running gateway and the namespace of its endpoints; `prefix` is that of their ids."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int
    ops_port: int
    pod_ops_port: int
    kubectl: Kubectl
    system: str
    keys: dict[str, list[str]] = field(default_factory=dict)
    prefix: str = ""

    def within(self, namespace: str) -> "Gateway":
        """The same gateway for the endpoints of a namespace that is not its home."""
        return replace(self, kubectl=self.kubectl.within(namespace), prefix=f"{namespace}.")

    def client(self, base: str, key: str = KEY, **options: Any) -> openai.OpenAI:
        """The official client with no special option but for what a test gives."""
        return openai.OpenAI(base_url=base, api_key=key, **{"max_retries": 0, **options})

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/v2/{self.prefix}{name}/openai/v1"

    def metric(self, name: str) -> float:
        """A metric that has no labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ops_port}/metrics", timeout=5) as reply:
            lines = reply.read().decode().splitlines()
        return next(float(value) for each, _, value in (line.partition(" ") for line in lines) if each == name)

    def held(self, name: str) -> dict[str, Any]:
        """The entry of an endpoint in /held, which the operator reads; {} before any request."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ops_port}/held", timeout=5) as reply:
            return dict(json.load(reply)["endpoints"].get(f"{self.kubectl.namespace}/{name}", {}))

    def endpoint(
        self,
        name: str,
        *,
        keys: Sequence[str] = (KEY,),
        models: Sequence[str] = (MODEL,),
        models_known: str = "All",
        **spec: Any,
    ) -> int:
        """Make an endpoint at zero that scales, as the operator would have it. Returns its gateway port.

        `models_known` is status.modelsKnown; "" is for an operator that does not set it.
        """
        port = free_gateway_port()
        self.kubectl.apply(endpoint(name, **{"replicas": 0, "scaling": {"maxReplicas": 2}, **spec}))
        self.status(name, models=list(models), **({"modelsKnown": models_known} if models_known else {}))
        self.write_gateway_slice(name, port)
        if keys:
            self.let_in(name, *keys)
        wait_for(lambda: self._lists(name, keys[0] if keys else ""), f"the gateway has {name} in its directory")
        wait_for(lambda: _listens(port), f"the gateway listens on {port}")
        return port

    def let_in(self, name: str, *keys: str) -> None:
        """Write the digests of an endpoint's keys; all the tests' endpoints share one Secret."""
        digests = [hmac.new(DIGEST_KEY, key.encode(), hashlib.sha256).hexdigest() for key in keys]
        self.keys[f"{self.kubectl.namespace}.{name}"] = digests
        data = {entry: encode("\n".join(each).encode()) for entry, each in self.keys.items()}
        _secret(self.kubectl.within(self.system), "forebay-gateway-keys-0", data)

    def status(self, name: str, **status: Any) -> None:
        """Write the status as the operator would."""
        found = self.kubectl.get("iep", name)
        assert found
        patch = json.dumps({"status": {"observedGeneration": found["metadata"]["generation"], **status}})
        self.kubectl.run("patch", "iep", name, "--subresource=status", "--type=merge", "--patch", patch)

    def write_gateway_slice(self, name: str, port: int) -> None:
        """Write the slice by which the operator gives an endpoint a port."""
        found = self.kubectl.get("iep", name)
        assert found
        self._slice(f"{name}-gateway", name, port, [], manager="gateway.forebay.dev", owner=_owner(found))

    def list_pods(self, slice_name: str, name: str, port: int, endpoints: list[Manifest]) -> None:
        """Write a slice of pods, as Kubernetes does for the endpoint's Service."""
        service = self.kubectl.get("service", name)
        if service is None:
            self.kubectl.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": HEADLESS})
            service = self.kubectl.get("service", name)
        assert service
        self._slice(slice_name, name, port, endpoints, manager="endpointslice-controller.k8s.io", owner=_owner(service))

    def _slice(
        self, slice_name: str, name: str, port: int, endpoints: list[Manifest], *, manager: str, owner: Manifest
    ) -> None:
        labels = {
            "kubernetes.io/service-name": name,
            "app.kubernetes.io/managed-by": "forebay",
            "endpointslice.kubernetes.io/managed-by": manager,
        }
        self.kubectl.apply(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": slice_name, "labels": labels, "ownerReferences": [owner]},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": port}],
                "endpoints": endpoints,
            }
        )

    def pods(self, name: str, *pods: CannedPod, ready: bool = True) -> None:
        """Let Kubernetes list pods of an endpoint, one slice for each since each has its own port."""
        for number, pod in enumerate(pods):
            target = {"kind": "Pod", "name": pod_name(name, number)}
            listed = [{"addresses": [pod.host], "conditions": {"ready": ready}, "targetRef": target}]
            self.list_pods(f"{name}-pod{number}", name, pod.port, listed)

    def replicas(self, name: str) -> int:
        found = self.kubectl.get("iep", name)
        assert found
        return int(found["spec"]["replicas"])

    def _lists(self, name: str, key: str) -> bool:
        try:
            return bool(self.client(self.url(name), key or "none").models.list().data)
        except (openai.APIStatusError, openai.APIConnectionError):
            return False


@contextmanager
def running_gateway(
    kubectl: Kubectl,
    system: str,
    log: Path,
    *,
    digest_key: bytes | None = DIGEST_KEY,
    ops_host: str = "127.0.0.1",
    valkey_url: str = "",
    bucket_url: str = "",
    **limits: Any,
) -> Iterator[Gateway]:
    """Run a gateway for the namespace of this kubectl; `system` is the digests' namespace. It has the chart's rights.

    `digest_key` is the install key to write there, empty if an operator creates it. `ops_host` is the address of
    its ops port. Its jobs are in Valkey where that has a URL, the contents of files in a bucket likewise.
    """
    port, ops_port, pod_ops_port = free_ports(3)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in {**LIMITS, **limits}.items()]
    command = [
        sys.executable, "-W", "error", "-m", "forebay_gateway", f"--port={port}",
        f"--ops-address={ops_host}:{ops_port}", f"--namespace={system}",
        f"--home-namespace={kubectl.namespace}", f"--pod-ops-port={pod_ops_port}", *options,
    ]  # fmt: skip
    if digest_key:
        _secret(kubectl.within(system), "forebay-gateway", {"digest-key": encode(digest_key)})
    template, enabled = "templates/gateway-rbac.yaml", "--set=gateway.enabled=true"
    access = give_chart_access(
        kubectl.within(system), log.with_name(f"{log.name}-access"), "forebay-gateway", template, enabled
    )
    env = {**access.environment()}
    if valkey_url:
        command.append("--jobs=valkey")
        env["FOREBAY_GATEWAY_VALKEY_URL"] = valkey_url
    if bucket_url:
        command += [f"--files-bucket={BUCKET}", f"--files-endpoint={bucket_url}"]
        env |= {"AWS_ACCESS_KEY_ID": "of-the-tests", "AWS_SECRET_ACCESS_KEY": "of-the-tests"}
    with running(log, *command, env=env) as process:
        gateway = Gateway(process, log, port, ops_port, pod_ops_port, kubectl, system)
        wait_for(lambda: is_ready(gateway), "the gateway is ready")
        yield gateway


@contextmanager
def namespaced_gateway(
    control_plane: Kubectl, log: Path, valkey_url: str = "", bucket_url: str = "", **limits: Any
) -> Iterator[Gateway]:
    """Run a gateway in its own namespaces, and check that it logs no error."""
    system, home = (f"gateway-{role}-{uuid.uuid4().hex[:6]}" for role in ("system", "home"))
    for namespace in (system, home):
        control_plane.run("create", "namespace", namespace)
    kubectl = control_plane.within(home)
    with running_gateway(kubectl, system, log, valkey_url=valkey_url, bucket_url=bucket_url, **limits) as running:
        yield running
        assert running.process.poll() is None, f"the gateway ended:\n{log.read_text()[-2000:]}"
    control_plane.within(home).run("delete", "iep,endpointslice", "--all", "--wait=false")  # no operator's business
    assert "Traceback" not in log.read_text()


def pod_name(name: str, number: int = 0) -> str:
    """The name of a pod that Kubernetes lists for an endpoint."""
    return f"{name}-6d8f-pod{number}"


def stand_by(system: Kubectl, *gateways: str) -> None:
    """Write which gateways are ready, as Kubernetes does for the Service in front of them."""
    system.apply(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "forebay-gateway-1", "labels": {"kubernetes.io/service-name": "forebay-gateway"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8000}],
            "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in gateways],
        }
    )


def is_ready(gateway: Gateway) -> bool:
    assert gateway.process.poll() is None, f"the gateway ended:\n{gateway.log.read_text()[-2000:]}"
    return _listens(gateway.port)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def _owner(manifest: Manifest) -> Manifest:
    """A reference to the object, as its controller's children have it."""
    metadata = manifest["metadata"]
    named = {"name": metadata["name"], "uid": metadata["uid"]}
    return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], **named, "controller": True}


def _secret(kubectl: Kubectl, name: str, data: dict[str, str]) -> None:
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})


def encode(data: bytes) -> str:
    """As a Secret has its data."""
    return base64.b64encode(data).decode()
