"""Whether an endpoint has reached its desired state."""

from collections.abc import Callable

from tests.kubectl import Kubectl

LONG = "300"
"""Seconds between two resyncs: so long that no resync helps the tested code."""


def replicas_are(kubectl: Kubectl, count: int) -> Callable[[], bool]:
    """Whether the status is current, has this number of replicas, and so many pods exist."""

    def ask_both() -> bool:
        found = kubectl.get("iep", "one") or {}
        current_status = found.get("status", {})
        current = current_status.get("observedGeneration") == found["metadata"]["generation"]
        return bool(current and current_status.get("ready") == f"0/{count}" and count == len(kubectl.list("pods")))

    return ask_both
