"""Builds the PodDisruptionBudget of an endpoint: the drain of a node evicts one server at a time.

The reconciler applies it with the other children.
"""

from typing import Any

from forebay_operator import labels
from forebay_operator.resources.meta import build_metadata, with_applied_digest
from forebay_operator.spec import Endpoint


def build_disruption_budget(endpoint: Endpoint) -> dict[str, Any]:
    """The budget, named like the endpoint. Pods that do not answer may always be evicted, so no such pod blocks a
    drain."""
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": labels.selector_labels(endpoint.name)},
    }
    metadata = build_metadata(endpoint, endpoint.name)
    return with_applied_digest(
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}
    )
