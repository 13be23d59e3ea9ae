"""Builds the metadata of an endpoint's pods. deployment.py calls it.

Inherited labels and annotations reach the pods with the next rollout: a change of them alone restarts no pod.
"""

import json
from collections.abc import Mapping
from typing import Any

from forebay_operator import labels
from forebay_operator.json_text import parse_json
from forebay_operator.resources.meta import digest
from forebay_operator.spec import Endpoint, Inherited, Manifest


def build_pod_metadata(endpoint: Endpoint, pod_spec: Manifest, live: Manifest | None) -> dict[str, Any]:
    """Build the metadata of the pod template: labels, annotations, and the revision of the template.

    The revision does not depend on inherited metadata.

    Args:
        live: the endpoint's Deployment, if it exists. If it has the same revision, its inherited metadata stays.
    """
    own = {**endpoint.pod.labels, **labels.child_labels(endpoint.name)}
    users = dict(endpoint.pod.annotations)
    revision = digest({"endpoint": endpoint.uid, "spec": pod_spec, "labels": own, "annotations": users})
    kept = _find_kept(live, revision) if endpoint.wanted else None
    inherited = endpoint.inherited if kept is None else kept
    annotations = {**inherited.annotations, **users, labels.REVISION_ANNOTATION: revision}
    if inherited:
        content = {"labels": dict(inherited.labels), "annotations": dict(inherited.annotations)}
        annotations[labels.INHERITED_ANNOTATION] = json.dumps(content, sort_keys=True)
    return {"labels": {**inherited.labels, **own}, "annotations": annotations}


def _find_kept(live: Manifest | None, revision: str) -> Inherited | None:
    """The inherited metadata of the live template; None if the template has another revision or is damaged."""
    if live is None:
        return None
    annotations = (live["spec"]["template"].get("metadata") or {}).get("annotations") or {}
    if annotations.get(labels.REVISION_ANNOTATION) != revision:
        return None
    try:
        content = parse_json(annotations.get(labels.INHERITED_ANNOTATION, "{}"))
    except ValueError:
        return None
    if not isinstance(content, Mapping):
        return None
    kept_labels, kept_annotations = (content.get(kind, {}) for kind in ("labels", "annotations"))
    both = _is_text_map(kept_labels) and _is_text_map(kept_annotations)
    return Inherited(kept_labels, kept_annotations) if both else None


def _is_text_map(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(each, str) for each in value.values())
