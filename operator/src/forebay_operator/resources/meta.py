"""Builds the metadata of every child: its owner, its labels, and the digest of the manifest that was applied.

All builders call it. The cache and the reconciler read the owner and the digest back.
"""

import hashlib
import json
from typing import Any, Protocol

from forebay_kube import names
from forebay_operator import labels
from forebay_operator.spec import Inherited, Manifest


class Owner(Protocol):
    """The part of an endpoint that its children refer to."""

    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def inherited(self) -> Inherited: ...


def build_metadata(endpoint: Owner, name: str) -> dict[str, Any]:
    """Build the metadata of a child. The endpoint owns it, so Kubernetes deletes it with the endpoint.

    It has the labels and annotations that the child gets from the endpoint. The operator's own labels override them.
    """
    annotations = {"annotations": dict(endpoint.inherited.annotations)} if endpoint.inherited.annotations else {}
    return {
        "name": name,
        "namespace": endpoint.namespace,
        "labels": {**endpoint.inherited.labels, **labels.child_labels(endpoint.name)},
        **annotations,
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
    """Add an annotation with the digest of the manifest."""
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
