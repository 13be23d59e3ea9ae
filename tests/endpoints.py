"""Endpoints for tests, and conditions to wait for."""

from collections.abc import Callable
from typing import Any

from tests.kubectl import Kubectl, Manifest, condition, wait_for

CHILDREN = [("deployment", "one"), ("service", "one"), ("secret", "one-api-key")]
"""The children of an endpoint named one."""


def endpoint(name: str = "one", **spec: Any) -> Manifest:
    return {
        "apiVersion": "forebay.dev/v1alpha1",
        "kind": "InferenceEndpoint",
        "metadata": {"name": name},
        "spec": {"model": "org/model", **spec},
    }


def reason_is(kubectl: Kubectl, reason: str, name: str = "one", words: str = "") -> Callable[[], Manifest | None]:
    """The endpoint, once Ready has this reason and its message contains these texts."""

    def ask() -> Manifest | None:
        found = kubectl.get("iep", name)
        ready = condition(found, "Ready")
        return found if ready.get("reason") == reason and words in ready["message"] else None

    return ask


def exists(kubectl: Kubectl, kind: str, name: str) -> Callable[[], Manifest | None]:
    return lambda: kubectl.get(kind, name)


def start(kubectl: Kubectl, **spec: Any) -> Manifest:
    """Apply an endpoint and wait for its Deployment."""
    kubectl.apply(endpoint(**spec))
    return wait_for(exists(kubectl, "deployment", "one"), "the Deployment exists")


def wait_for_no_children(kubectl: Kubectl, name: str) -> None:
    """Wait until nothing is left that carries the endpoint's label."""
    kinds = ",".join(kind for kind, _ in CHILDREN) + ",pods"
    wait_for(lambda: kubectl.list(kinds, f"forebay.dev/endpoint={name}") == [], "every child is deleted", timeout=60)
