"""Builds the EndpointSlice by which an endpoint's Service leads to the gateways while none of its pods is ready.

The slice exists as long as the endpoint, because it records the endpoint's port at the gateways. Only its addresses
change. Kubernetes does not touch slices of another manager:
https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#management
"""

from collections.abc import Iterable

from forebay_kube import names
from forebay_operator import labels
from forebay_operator.resources.meta import Owner, build_metadata, with_applied_digest
from forebay_operator.spec import Manifest


def build_gateway_slice(endpoint: Owner, family: str, port: int, addresses: Iterable[str]) -> Manifest:
    """Build the slice for a family, IPv4 or IPv6. `addresses` are the gateways of this family, or empty."""
    metadata = build_metadata(endpoint, labels.gateway_slice_name(endpoint.name, family))
    own_labels = {names.SERVICE_LABEL: endpoint.name, names.SLICE_MANAGER_LABEL: names.SLICE_MANAGER}
    return with_applied_digest(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {**metadata["labels"], **own_labels}},
            "addressType": family,
            "ports": [{"name": "http", "protocol": "TCP", "port": port}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in sorted(addresses)],
        }
    )


def read_port(manifest: Manifest) -> int:
    """The endpoint's port at the gateways, from a slice; 0 if the slice has no port."""
    ports = manifest.get("ports") or ()
    return int(ports[0].get("port") or 0) if ports else 0
