"""Names that the operator and the gateway agree on."""

GROUP = "forebay.dev"
VERSION = "v1alpha1"
PLURAL = "inferenceendpoints"
FIELD_MANAGER = "forebay-gateway"

MANAGED = "app.kubernetes.io/managed-by=forebay"
"""Selects what the operator made, and the slices that Kubernetes made for its Services, which inherit their labels."""

SERVICE_LABEL = "kubernetes.io/service-name"
SLICE_MANAGER_LABEL = "endpointslice.kubernetes.io/managed-by"
SLICE_MANAGER = "gateway.forebay.dev"
"""On the slices that tell the ports on which the gateway stands in for endpoints."""

KUBERNETES_SLICE_MANAGER = "endpointslice-controller.k8s.io"
"""On those of pods. Kubernetes puts right what anybody else writes into them."""

KIND = "InferenceEndpoint"
GATEWAY_PORTS = range(20000, 30000)
"""Those that the operator gives to endpoints."""

KEY_SECRET = "forebay-gateway"
KEY_ENTRY = "digest-key"
DIGEST_SECRETS = tuple(f"forebay-gateway-keys-{digit:x}" for digit in range(16))
"""See keys.py."""

PORT_NAME = "http"
"""Of the Service's port."""

Key = tuple[str, str]
"""Namespace and name of an endpoint."""
