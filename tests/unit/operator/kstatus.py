"""The kstatus of a custom resource, as Helm, Flux and Argo CD's wait hooks compute it: the oracle of our tests.

After Compute in kubernetes-sigs/cli-utils, pkg/kstatus/status/status.go, and checkGenericProperties and checkGeneration
in generic.go beside it; newer versions also look at Ready. The order of the conditions matters there, so it does here.
"""

from tests.kubectl import Manifest


def compute(resource: Manifest) -> str:
    """InProgress, Current, Failed or Terminating."""
    metadata, status = resource["metadata"], resource.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    if "generation" in metadata and status.get("observedGeneration", metadata["generation"]) != metadata["generation"]:
        return "InProgress"
    conditions = status.get("conditions") or ()
    for condition in conditions:
        if condition["type"] == "Reconciling" and condition["status"] == "True":
            return "InProgress"
        if condition["type"] == "Stalled" and condition["status"] == "True":
            return "Failed"
    for condition in conditions:
        if condition["type"] == "Ready":
            return "Current" if condition["status"] == "True" else "InProgress"
    return "Current"
