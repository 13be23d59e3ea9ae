"""Builds the Deployment that runs an endpoint's servers.

The reconciler applies it after the objects that its pods mount or need.
"""

from collections.abc import Set
from typing import Any

from forebay_operator import labels
from forebay_operator.resources.meta import build_metadata
from forebay_operator.resources.pod_template.pod_metadata import build_pod_metadata
from forebay_operator.resources.pod_template.pod_spec import STARTUP_MARGIN, build_pod_spec, find_startup_seconds
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, Manifest

SCHEDULING_MARGIN = 60
"""Seconds of a Deployment's progress deadline for scheduling and image pulls, in addition to the start itself."""


def build_deployment(
    endpoint: Endpoint,
    settings: Settings,
    stuck_revisions: Set[str] = frozenset(),
    unwatched: str = "",
    live: Manifest | None = None,
) -> dict[str, Any]:
    """Build the Deployment, which has the endpoint's name, without the annotations that template.py adds.

    Under Surge a new pod is ready before an old one ends. Under Replace an old pod ends first, and the next old pod
    only when the new pod is ready. If no pod is ready, all old pods end immediately. They serve no request, and a
    failing pod must not keep the GPU that the corrected pod needs.

    Args:
        stuck_revisions: the revisions of the active pods while no pod is ready, else empty.
        unwatched: the digest of the unwatched children.
        live: the Deployment as it is now, if it exists.
    """
    template = _build_template(endpoint, settings, live)
    revision = template["metadata"]["annotations"][labels.REVISION_ANNOTATION]
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
        "template": template,
    }
    own = build_metadata(endpoint, endpoint.name)
    own["annotations"] = {**own.get("annotations", {}), labels.UNWATCHED_ANNOTATION: unwatched}
    if endpoint.kept_defaults:
        own["annotations"][labels.DEFAULTS_ANNOTATION] = endpoint.kept_defaults
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": own, "spec": spec}


def find_revision(endpoint: Endpoint, settings: Settings) -> str:
    """Return the revision of an endpoint's pod template, which is a digest of the template."""
    return str(_build_template(endpoint, settings)["metadata"]["annotations"][labels.REVISION_ANNOTATION])


def _build_template(endpoint: Endpoint, settings: Settings, live: Manifest | None = None) -> dict[str, Any]:
    pod_spec = build_pod_spec(endpoint, settings)
    return {"metadata": build_pod_metadata(endpoint, pod_spec, live), "spec": pod_spec}
