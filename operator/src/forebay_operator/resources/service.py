"""The Service in front of an endpoint's servers. It exposes the API port and nothing else."""

from forebay_operator import labels
from forebay_operator.resources.meta import build_metadata, with_applied_digest
from forebay_operator.spec import Endpoint, Manifest


def build_service(endpoint: Endpoint) -> Manifest:
    """The Service, named like the endpoint."""
    metadata = build_metadata(endpoint, endpoint.name)
    if endpoint.service.annotations:
        metadata["annotations"] = {**metadata.get("annotations", {}), **endpoint.service.annotations}
    port = {"name": "http", "protocol": "TCP", "port": endpoint.service.port, "targetPort": "http"}
    spec = {"type": endpoint.service.type, "selector": labels.selector_labels(endpoint.name), "ports": [port]}
    return with_applied_digest({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
