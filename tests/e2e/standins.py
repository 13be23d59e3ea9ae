"""Stand-ins for services that a test cluster lacks, such as a model hub or a registry: a Python program in a pod."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.forebay import images
from tests.kubectl import Kubectl, Manifest

FOLDER = Path(__file__).parent


@contextmanager
def run_helper(
    kubectl: Kubectl,
    name: str,
    *arguments: str,
    ports: tuple[int, ...],
    mounts: Mapping[str, Manifest] | None = None,
    env: Mapping[str, str] | None = None,
    on_node: bool = False,
) -> Iterator[str]:
    """Run tests/e2e/<name>.py in a pod with the clients' image while the context lasts; gives its host name.

    It is ready when the first of its ports is open; its Service has them all. `mounts` are volumes by the path that
    they are mounted at. With `on_node` the pod has its node's network, and no Service.
    """
    volumes = {"/program": {"configMap": {"name": name}}, **(mounts or {})}
    container: dict[str, Any] = {
        "name": name,
        "image": images()["client"],
        "command": ["python3", f"/program/{name}.py", *arguments],
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
        "readinessProbe": {"tcpSocket": {"port": ports[0]}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": f"volume-{number}", "mountPath": path, "readOnly": True} for number, path in enumerate(volumes)
        ],
    }
    spec = {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 0,
        "hostNetwork": on_node,
        "containers": [container],
        "volumes": [{"name": f"volume-{number}", **what} for number, what in enumerate(volumes.values())],
    }
    metadata = {"name": name, "labels": {"app": name}}
    program = {"metadata": {"name": name}, "data": {f"{name}.py": (FOLDER / f"{name}.py").read_text()}}
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", **program})
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    if not on_node:
        listed = [{"name": f"port-{port}", "port": port} for port in ports]
        service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata}
        kubectl.apply({**service, "spec": {"selector": {"app": name}, "ports": listed}})
    try:
        kubectl.run("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=180s")
        yield f"{name}.{kubectl.namespace}.svc"
    finally:
        for what in ("pod", "service", "configmap"):
            kubectl.delete(what, name)
