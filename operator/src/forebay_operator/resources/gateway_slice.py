"""The EndpointSlice by which an endpoint's Service leads to the gateways while none of its pods is ready.

It stays for the endpoint's life, since it is the record of the endpoint's port at the gateways; only whom it lists
changes. Kubernetes leaves slices that have another manager than its own as they are:
https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#management
"""

from collections.abc import Iterable

from forebay_kube import names
from forebay_operator import labels
from forebay_operator.resources.meta import Owner, build_metadata, with_applied_digest
from forebay_operator.spec import Manifest


def build_gateway_slice(endpoint: Owner, family: str, port: int, addresses: Iterable[str]) -> Manifest:
    """The slice for a family, IPv4 or IPv6. `addresses` of that family are those of the gateways, or none."""
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
    """The endpoint's port at the gateways, as a slice has it; 0 for none."""
    ports = manifest.get("ports") or ()
    return int(ports[0].get("port") or 0) if ports else 0
