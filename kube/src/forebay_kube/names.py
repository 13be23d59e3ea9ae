"""Names that operator and gateway share.

These are labels, annotations, groups and ports: one side writes them, and the other side reads them.
"""

GROUP = "forebay.dev"
VERSION = "v1alpha1"
KIND = "InferenceEndpoint"
PLURAL = "inferenceendpoints"

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "forebay"
MANAGED_SELECTOR = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
"""Selects the children of endpoints, and Kubernetes' slices of their Services, which inherit the labels."""

SERVICE_LABEL = "kubernetes.io/service-name"
SLICE_MANAGER_LABEL = "endpointslice.kubernetes.io/managed-by"
SLICE_MANAGER = f"gateway.{GROUP}"
"""The manager of the slices that lead to the gateways. They have the port of each endpoint at the gateways."""

KUBERNETES_SLICE_MANAGER = "endpointslice-controller.k8s.io"
"""The manager of the slices of pods. Kubernetes corrects changes by others."""

GATEWAY_PORTS = range(20000, 30000)
"""Ports of the gateways, one for each endpoint of the cluster."""

DIGEST_KEY_SECRET = "forebay-gateway"
DIGEST_KEY_ENTRY = "digest-key"
DIGEST_SECRETS = tuple(f"forebay-gateway-keys-{digit:x}" for digit in range(16))
"""Secrets in the operator's namespace: the key for the digests of API keys, and the digests."""
