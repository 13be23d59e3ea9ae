"""The Deployment that runs an endpoint's servers."""

from forebay_operator import names
from forebay_operator.resources.meta import build_metadata, seal
from forebay_operator.resources.pod import STARTUP_TIMEOUT, build_pod_spec
from forebay_operator.settings import Settings
from forebay_operator.types import Endpoint, Manifest


def build_deployment(endpoint: Endpoint, settings: Settings) -> Manifest:
    """The Deployment, named like the endpoint. A new pod is ready before an old one goes."""
    template = {
        "metadata": {"labels": names.child_labels(endpoint.name)},
        "spec": build_pod_spec(endpoint, settings),
    }
    spec = {
        "replicas": endpoint.replicas,
        "selector": {"matchLabels": names.selector_labels(endpoint.name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "progressDeadlineSeconds": STARTUP_TIMEOUT + 60,
        "revisionHistoryLimit": 3,
        "template": template,
    }
    metadata = build_metadata(endpoint, endpoint.name)
    return seal({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
