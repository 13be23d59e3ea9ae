"""Stand-ins for what a test cluster has not, such as a model hub or a registry: a Python program in a pod."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.forebay import images
from tests.kubectl import Kubectl, Manifest

FOLDER = Path(__file__).parent


@contextmanager
def stand_in(
    kubectl: Kubectl,
    name: str,
    *arguments: str,
    port: int,
    mounts: Mapping[str, Manifest] | None = None,
    on_node: bool = False,
) -> Iterator[str]:
    """Run tests/e2e/<name>.py in a pod with the clients' image while the context lasts; gives its URL in the cluster.

    `mounts` are volumes by the path that they are mounted at. With `on_node` the pod has its node's network, and no
    Service.
    """
    volumes = {"/program": {"configMap": {"name": name}}, **(mounts or {})}
    container: dict[str, Any] = {
        "name": name,
        "image": images()["client"],
        "command": ["python3", f"/program/{name}.py", *arguments],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
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
    kubectl.run("create", "configmap", name, f"--from-file={FOLDER / name}.py")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    kubectl.run("apply", "-f", "-", stdin=json.dumps(pod))
    if not on_node:
        kubectl.run("expose", "pod", name, "--port=80", f"--target-port={port}")
    try:
        kubectl.run("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        yield f"http://{name}.{kubectl.namespace}.svc"
    finally:
        for what in ("pod", "service", "configmap"):
            kubectl.delete(what, name)
