"""Labels, annotations and names of the objects that the operator creates. All follow from the endpoint's name."""

from forebay_kube.names import GROUP, MANAGED_BY, MANAGED_BY_LABEL, MANAGED_SELECTOR, SLICE_MANAGER, SLICE_MANAGER_LABEL

FIELD_MANAGER = "forebay"
"""The field manager of all server-side applies."""

ENDPOINT_LABEL = f"{GROUP}/endpoint"
APPLIED_ANNOTATION = f"{GROUP}/applied"
"""On every child: a digest of the manifest that was applied last. So a restarted operator knows it without a write."""

REVISION_ANNOTATION = f"{GROUP}/revision"
"""On every pod: a digest of its template. Only pods of the current template are diagnosed."""

INHERITED_ANNOTATION = f"{GROUP}/inherited"
"""On every pod that inherits metadata: this metadata as JSON. It changes only with the revision of the template."""

UNWATCHED_ANNOTATION = f"{GROUP}/companions"
"""On every Deployment: a digest of the unwatched children, as they were when the Deployment was applied last."""

TEMPLATE_ANNOTATION = f"{GROUP}/template"
"""On every Deployment: a record of the spec from which its pod template was built (resources/template.py)."""

UPGRADE_ANNOTATION = f"{GROUP}/upgrade"
"""On an endpoint: each new value approves the upgrade to the current pod template once."""

DEFAULTS_ANNOTATION = f"{GROUP}/defaults"
"""On a Deployment: the defaults of resources and cache that its pods have. They stay until the endpoint changes."""

ROUTE_API = "gateway.networking.k8s.io/v1"

SELECTORS = {
    "Deployment": MANAGED_SELECTOR,
    "Service": MANAGED_SELECTOR,
    "Pod": MANAGED_SELECTOR,
    "EndpointSlice": f"{SLICE_MANAGER_LABEL}={SLICE_MANAGER}",
}
"""The label selector of the watch of each kind except endpoints. (Slices inherit the labels of their Services.)"""

DELETION_COST_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
"""On a pod: when replicas are removed, Kubernetes removes the pod with the lowest cost first."""

KEYS_ANNOTATION = f"{GROUP}/keys"
"""On a pod: changes when the keys of its endpoint do."""

DIGEST_KEY_ANNOTATION = f"{GROUP}/digest-key"
"""On the Secrets of digests: identifies the key that the digests were computed with."""

CONTAINER = "server"
INIT_CONTAINER = "forebay-overlay"
"""The names of the containers in an endpoint's pods. Only the overlay Copy needs the init container."""


def child_labels(endpoint: str) -> dict[str, str]:
    """The labels of every child of the endpoint. The watches select by them."""
    return {"app.kubernetes.io/name": endpoint, MANAGED_BY_LABEL: MANAGED_BY, ENDPOINT_LABEL: endpoint}


def selector_labels(endpoint: str) -> dict[str, str]:
    """The selector of the endpoint's pods. A Deployment's selector is immutable, so this must never change."""
    return {ENDPOINT_LABEL: endpoint}


def selector_string(endpoint: str) -> str:
    """`selector_labels` in the form of the scale subresource."""
    return ",".join(f"{key}={value}" for key, value in selector_labels(endpoint).items())


def key_secret_name(endpoint: str) -> str:
    """The name of the generated key Secret, for an endpoint that names no Secret."""
    return f"{endpoint}-api-key"


def control_secret_name(endpoint: str) -> str:
    """The name of the Secret with the token for the engine control of the endpoint's pods."""
    return f"{endpoint}-control"


def gateway_slice_name(endpoint: str, family: str) -> str:
    """The name of the EndpointSlice that leads to the gateways, for one address family. The one of IPv4 always
    exists."""
    return f"{endpoint}-gateway" if family == "IPv4" else f"{endpoint}-gateway-{family.lower()}"


def cache_claim_name(endpoint: str) -> str:
    """The name of the PersistentVolumeClaim that is created for an endpoint with spec.cache.size."""
    return f"{endpoint}-cache"
