"""The endpoints of a round, and what each of them consists of."""

from typing import Any

from forebay_operator.resources import build_deployment, build_key_secret, build_service, build_unwatched
from forebay_operator.resources.meta import digest
from forebay_operator.resources.secret import build_control_secret
from forebay_operator.resources.template import replace_template
from forebay_operator.settings import Settings
from forebay_operator.spec import parse_endpoint

Manifest = dict[str, Any]

ENDPOINTS = "/apis/forebay.dev/v1alpha1/namespaces/{}/inferenceendpoints"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
COLLECTIONS = {
    "Secret": "/api/v1/namespaces/{}/secrets",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Service": "/api/v1/namespaces/{}/services",
    "Deployment": DEPLOYMENTS,
}

GPU_IMAGE = "gpu-server:1"
OVERLAY_IMAGE = "forebay-server:1"
CHANGE = {"spec": {"env": [{"name": "MAX_MODEL_LEN", "value": "8192"}]}}
"""A change of an endpoint that makes new pods."""


def build_endpoint(namespace: str, number: int) -> Manifest:
    """One of many endpoints."""
    return {
        "apiVersion": "forebay.dev/v1alpha1",
        "kind": "InferenceEndpoint",
        "metadata": {"name": f"endpoint-{number:05}", "namespace": namespace},
        "spec": {"model": "org/model"},
    }


def build_children(endpoint: Manifest) -> list[Manifest]:
    """The children that the operator creates for an endpoint, by its own builders. Only the owner's uid is unknown."""
    parsed = parse_endpoint({**endpoint, "metadata": {**endpoint["metadata"], "uid": "", "generation": 1}})
    settings = Settings(GPU_IMAGE, "", overlay_image=OVERLAY_IMAGE)
    unwatched = build_unwatched(parsed, settings)
    unwatched_digest = digest({"auth": vars(parsed.auth), "children": unwatched})
    draft = build_deployment(parsed, settings, unwatched=unwatched_digest)
    deployment = replace_template(parsed, draft, None, begins_upgrade=False, is_complete=False)
    secrets = build_key_secret(parsed), build_control_secret(parsed)
    return [dict(child) for child in (*secrets, *unwatched, build_service(parsed), deployment)]


def is_available(deployment: Manifest) -> bool:
    """Whether all pods of a Deployment as it is now are there."""
    status = deployment.get("status") or {}
    seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
    there = status.get("availableReplicas") == status.get("updatedReplicas") == deployment["spec"]["replicas"]
    return bool(seen and there)


def is_ready(endpoint: Manifest) -> bool:
    """Whether an endpoint says that it is ready, and as it is now."""
    conditions = (endpoint.get("status") or {}).get("conditions") or ()
    ready: Manifest = next((each for each in conditions if each["type"] == "Ready"), {})
    current = ready.get("observedGeneration") == endpoint["metadata"]["generation"]
    return bool(current and ready["status"] == "True" and ready["reason"] == "Ready")
