"""A claim on a folder of the cluster's node, with content."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster import kind
from tests.e2e.cluster import NAME as CLUSTER
from tests.kubectl import Kubectl

SIZE = {"storage": "1Gi"}


def class_of(volume: str) -> dict[str, Any]:
    """The fields that claim and volume share."""
    return {"accessModes": ["ReadWriteMany"], "storageClassName": volume}


def make_volume(kubectl: Kubectl, volume: str, mode: str = "ReadWriteMany") -> None:
    """A volume on a new folder of the node, for the claims of a storage class of its name."""
    node = kind.nodes(CLUSTER)[0]
    folder = f"/var/lib/{volume}"
    subprocess.run(["docker", "exec", node, "rm", "-rf", folder], check=True, timeout=60)
    subprocess.run(["docker", "exec", node, "install", "-d", "-m", "0777", folder], check=True, timeout=60)
    here = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                **class_of(volume),
                "accessModes": [mode],
                "capacity": SIZE,
                "hostPath": {"path": folder},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [here]}},
            },
        }
    )


@contextmanager
def filled_claim(kubectl: Kubectl, name: str, image: str, *command: str) -> Iterator[str]:
    """A claim while the context lasts, filled by a command of an image that finds it at /weights; gives its name."""
    volume = f"{kubectl.namespace}-{name}"
    make_volume(kubectl, volume)
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": {**class_of(volume), "volumeName": volume, "resources": {"requests": SIZE}},
        }
    )
    container = {
        "name": "fill",
        "image": image,
        "command": list(command),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "weights", "mountPath": "/weights"}],
    }
    user = {"runAsNonRoot": True, "runAsUser": 2000, "seccompProfile": {"type": "RuntimeDefault"}}
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"fill-{name}"},
            "spec": {
                "restartPolicy": "Never",
                "securityContext": user,
                "containers": [container],
                "volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": name}}],
            },
        }
    )
    kubectl.run("wait", f"pod/fill-{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=180s")
    yield name
    kubectl.delete("pod", f"fill-{name}")
    kubectl.delete("pvc", name)
    kubectl.delete("pv", volume)
