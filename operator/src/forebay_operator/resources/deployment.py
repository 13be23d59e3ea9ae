"""The Deployment that runs an endpoint's servers."""

from collections.abc import Set

from forebay_operator import names
from forebay_operator.resources.meta import build_metadata, digest, seal
from forebay_operator.resources.pod import STARTUP_TIMEOUT, build_pod_spec
from forebay_operator.settings import Settings
from forebay_operator.types import Endpoint, Manifest


def build_deployment(endpoint: Endpoint, settings: Settings, stuck_revisions: Set[str] = frozenset()) -> Manifest:
    """The Deployment, named like the endpoint.

    A new pod is ready before an old one goes. But where old pods are stuck (`stuck_revisions`: of the pods while none
    answers) there is nothing to protect, and one that fails must not keep the GPU that the corrected one needs.
    """
    pod_spec = build_pod_spec(endpoint, settings)
    revision = digest({"endpoint": endpoint.uid, "spec": pod_spec})
    metadata = {"labels": names.child_labels(endpoint.name), "annotations": {names.REVISION_ANNOTATION: revision}}
    spec = {
        "replicas": endpoint.replicas,
        "selector": {"matchLabels": names.selector_labels(endpoint.name)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "100%" if stuck_revisions - {revision} else 0},
        },
        "progressDeadlineSeconds": STARTUP_TIMEOUT + 60,
        "revisionHistoryLimit": 3,
        "template": {"metadata": metadata, "spec": pod_spec},
    }
    own = build_metadata(endpoint, endpoint.name)
    return seal({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": own, "spec": spec})
