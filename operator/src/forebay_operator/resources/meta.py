"""Metadata that every child carries: who owns it, how it is found, and what was last applied to it."""

import hashlib
import json
from typing import Any, Protocol

from forebay_kube import names
from forebay_operator import labels
from forebay_operator.spec import Manifest


class Owner(Protocol):
    """What of an endpoint its children carry."""

    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> str: ...


def build_metadata(endpoint: Owner, name: str) -> dict[str, Any]:
    """Metadata of a child: owned by the endpoint, so that Kubernetes deletes it with the endpoint."""
    return {
        "name": name,
        "namespace": endpoint.namespace,
        "labels": labels.child_labels(endpoint.name),
        "ownerReferences": [
            {
                "apiVersion": f"{names.GROUP}/{names.VERSION}",
                "kind": names.KIND,
                "name": endpoint.name,
                "uid": endpoint.uid,
                "controller": True,
            }
        ],
    }


def with_applied_digest(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with an annotation that holds the digest of all the rest of it."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), labels.APPLIED_ANNOTATION: digest(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def digest(content: Manifest) -> str:
    """Sixteen hex digits that change with the content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def find_controller(manifest: Manifest) -> Manifest | None:
    """The owner reference of the object's controller, if it has one."""
    owners = manifest["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)
