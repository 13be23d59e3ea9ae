"""metrics-server, by which an HPA knows what pods use: built from its Go module, installed by the manifests in that."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from cluster import pins, tools
from tests.e2e.go_images import load_program
from tests.kubectl import Kubectl, Manifest

MODULE = "sigs.k8s.io/metrics-server"


def manifests(kubectl: Kubectl, image: str) -> list[Manifest]:
    """The manifest of its project, with this image and the shortest interval: it reads kubelets every 10 s."""
    folder = tools.download_module(pins.GO_MODULE, MODULE) / "manifests/base"
    found: list[Manifest] = list(yaml.safe_load_all(kubectl.run("kustomize", str(folder))))
    (deployment,) = (each for each in found if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container |= {"image": image, "imagePullPolicy": "Never"}
    container["args"] += ["--metric-resolution=10s", "--kubelet-request-timeout=9s", "--kubelet-insecure-tls"]
    container["readinessProbe"] |= {"initialDelaySeconds": 0, "periodSeconds": 1}
    return found


@contextmanager
def metrics_server(cluster: Kubectl, folder: Path) -> Iterator[None]:
    """The cluster has one while the context lasts; the folder is for its image."""
    listed = {
        "apiVersion": "v1",
        "kind": "List",
        "items": manifests(cluster, load_program(tools.metrics_server(), folder)),
    }
    system = cluster.within("kube-system")
    try:
        system.run("apply", "-f", "-", stdin=json.dumps(listed))
        system.run("wait", "apiservice/v1beta1.metrics.k8s.io", "--for=condition=Available", "--timeout=90s")
        yield
    finally:
        system.run("delete", "--ignore-not-found", "-f", "-", stdin=json.dumps(listed))
