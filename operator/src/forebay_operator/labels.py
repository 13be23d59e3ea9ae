"""Labels, annotations and names of what the operator makes. All follow from the endpoint's immutable name."""

from forebay_kube.names import GROUP, MANAGED_BY, MANAGED_BY_LABEL, MANAGED_SELECTOR, SLICE_MANAGER, SLICE_MANAGER_LABEL

FIELD_MANAGER = "forebay"
"""The one owner of server-side applied fields."""

ENDPOINT_LABEL = f"{GROUP}/endpoint"
APPLIED_ANNOTATION = f"{GROUP}/applied"
"""On every child: a digest of the manifest that was last applied, so that a restart needs no write to know it."""

REVISION_ANNOTATION = f"{GROUP}/revision"
"""On every pod: a digest of the template that it was made from. Only pods of the newest template are diagnosed."""

UNWATCHED_ANNOTATION = f"{GROUP}/companions"
"""On every Deployment: a digest of the children that are not watched, as they were when it was last applied."""

ROUTE_API = "gateway.networking.k8s.io/v1"

SELECTORS = {
    "Deployment": MANAGED_SELECTOR,
    "Service": MANAGED_SELECTOR,
    "Pod": MANAGED_SELECTOR,
    "EndpointSlice": f"{SLICE_MANAGER_LABEL}={SLICE_MANAGER}",
}
"""What the operator watches of each kind besides endpoints. (Slices inherit the labels of their Services.)"""

DELETION_COST_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
"""On a pod: of those that may go, Kubernetes takes the one with the lowest first."""

KEYS_ANNOTATION = f"{GROUP}/keys"
"""On a pod: changes when the keys of its endpoint do."""

DIGEST_KEY_ANNOTATION = f"{GROUP}/digest-key"
"""On the Secrets of digests: names the key under which they were made."""

CONTAINER = "server"


def child_labels(endpoint: str) -> dict[str, str]:
    """Labels of every object that belongs to the endpoint; what the operator watches by."""
    return {"app.kubernetes.io/name": endpoint, MANAGED_BY_LABEL: MANAGED_BY, ENDPOINT_LABEL: endpoint}


def selector_labels(endpoint: str) -> dict[str, str]:
    """What selects the endpoint's pods. A Deployment's selector can never change, so this must not either."""
    return {ENDPOINT_LABEL: endpoint}


def selector_string(endpoint: str) -> str:
    """`selector_labels` in the form of the scale subresource."""
    return ",".join(f"{key}={value}" for key, value in selector_labels(endpoint).items())


def key_secret_name(endpoint: str) -> str:
    """The Secret that is made when the endpoint names none."""
    return f"{endpoint}-api-key"


def control_secret_name(endpoint: str) -> str:
    """The Secret with the token for the engine control of the endpoint's pods."""
    return f"{endpoint}-control"


def gateway_slice_name(endpoint: str, family: str) -> str:
    """The EndpointSlice that leads to the gateways, for one family of addresses; that of IPv4 is always there."""
    return f"{endpoint}-gateway" if family == "IPv4" else f"{endpoint}-gateway-{family.lower()}"


def cache_claim_name(endpoint: str) -> str:
    """The PersistentVolumeClaim that is made when the endpoint asks for one by size."""
    return f"{endpoint}-cache"
