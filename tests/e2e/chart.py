"""Installing the chart, and removing it."""

from tests.e2e.forebay import helm
from tests.endpoints import endpoint, exists
from tests.kubectl import Kubectl, wait_for

CRD = "inferenceendpoints.forebay.dev"


def uninstall(kubectl: Kubectl, release: str = "forebay") -> None:
    helm(kubectl, "uninstall", release, "--ignore-not-found", "--wait")


def works(kubectl: Kubectl, name: str) -> bool:
    """Whether an endpoint gets its children; it has no replicas, so no server starts."""
    kubectl.apply(endpoint(name, replicas=0))
    wait_for(exists(kubectl, "deployment", name), "the Deployment exists")
    return kubectl.get("service", name) is not None
