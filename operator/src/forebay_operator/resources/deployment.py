"""The Deployment that runs an endpoint's servers."""

from collections.abc import Set

from forebay_operator import labels
from forebay_operator.resources.meta import build_metadata, digest, with_applied_digest
from forebay_operator.resources.pod_spec import STARTUP_MARGIN, build_pod_spec, find_startup_seconds
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, Manifest

SCHEDULING_MARGIN = 60
"""Seconds besides the start itself in which a Deployment has to progress: a node is found, images are pulled."""


def build_deployment(
    endpoint: Endpoint, settings: Settings, stuck_revisions: Set[str] = frozenset(), unwatched: str = ""
) -> Manifest:
    """The Deployment, named like the endpoint.

    Under Surge a new pod is ready before an old one goes; under Replace an old one goes first, and the next only when
    the new one is ready. But where old pods are stuck (`stuck_revisions`: of the pods while none answers) there is
    nothing to protect, and one that fails must not keep the GPU that the corrected one needs. `unwatched` is the digest
    of the children that are not watched.
    """
    pod_spec = build_pod_spec(endpoint, settings)
    users_annotations = dict(endpoint.pod.annotations)
    pod_labels = {**endpoint.pod.labels, **labels.child_labels(endpoint.name)}
    content = {"endpoint": endpoint.uid, "spec": pod_spec, "labels": pod_labels, "annotations": users_annotations}
    revision = digest(content)
    metadata = {"labels": pod_labels, "annotations": {**users_annotations, labels.REVISION_ANNOTATION: revision}}
    surge, unavailable = (1, 0) if endpoint.rollout.strategy == "Surge" else (0, 1)
    spec = {
        "replicas": endpoint.wanted,
        "selector": {"matchLabels": labels.selector_labels(endpoint.name)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {
                "maxSurge": surge,
                "maxUnavailable": "100%" if stuck_revisions - {revision} else unavailable,
            },
        },
        "progressDeadlineSeconds": find_startup_seconds(endpoint) + STARTUP_MARGIN + SCHEDULING_MARGIN,
        "revisionHistoryLimit": 3,
        "template": {"metadata": metadata, "spec": pod_spec},
    }
    own = build_metadata(endpoint, endpoint.name)
    own["annotations"] = {labels.UNWATCHED_ANNOTATION: unwatched}
    return with_applied_digest({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": own, "spec": spec})
