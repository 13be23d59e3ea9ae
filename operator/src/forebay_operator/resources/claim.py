"""Builds the PersistentVolumeClaim for downloaded files, for endpoints with spec.cache.size.

The reconciler applies it with the other children.
"""

from typing import Any

from forebay_operator import labels
from forebay_operator.resources.meta import build_metadata, with_applied_digest
from forebay_operator.spec import Endpoint


def build_claim(endpoint: Endpoint) -> dict[str, Any] | None:
    """Build the claim, or return None if the cache is the user's own claim or the pod's disk.

    A retained claim has no owner, so it outlives the endpoint. The next endpoint of the same name uses it again.
    """
    cache = endpoint.cache
    if not cache.size:
        return None
    metadata = build_metadata(endpoint, labels.cache_claim_name(endpoint.name))
    if cache.deletion_policy == "Retain":
        del metadata["ownerReferences"]
    spec: dict[str, Any] = {
        "accessModes": list(cache.access_modes),
        "resources": {"requests": {"storage": cache.size}},
    }
    if cache.storage_class_name:
        spec["storageClassName"] = cache.storage_class_name
    return with_applied_digest(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
    )
