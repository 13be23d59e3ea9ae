"""Playing the parts of a cluster that has no nodes."""

from tests.kubectl import Kubectl, Manifest, wait_for


def play_kubelet(kubectl: Kubectl, pod: str, status: Manifest) -> None:
    kubectl.patch("pod", pod, {"status": status}, "--subresource=status")


def newest_pod(kubectl: Kubectl) -> str:
    pods = wait_for(lambda: kubectl.list("pods") or None, "a pod exists")
    return str(pods[-1]["metadata"]["name"])
