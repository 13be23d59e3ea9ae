"""Whether an endpoint has come to what was asked for."""

from collections.abc import Callable

from tests.kubectl import Kubectl

LONG = "300"
"""Seconds between two rounds over everything: none comes to the help of what is tested here."""


def replicas_are(kubectl: Kubectl, count: int) -> Callable[[], bool]:
    """Whether the status is of now and asks for so many pods, and there are so many."""

    def ask_both() -> bool:
        found = kubectl.get("iep", "one") or {}
        told = found.get("status", {})
        current = told.get("observedGeneration") == found["metadata"]["generation"]
        return bool(current and told.get("ready") == f"0/{count}" and count == len(kubectl.list("pods")))

    return ask_both
