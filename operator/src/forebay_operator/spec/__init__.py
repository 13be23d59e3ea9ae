"""Parses the manifest of an endpoint: with defaults and checks. Pure; the reconciler calls it."""

from forebay_operator.spec.endpoint import (
    SERVED_NAME_VARIABLES,
    Adapter,
    Auth,
    Endpoint,
    Gpu,
    Manifest,
    ModelCache,
    OverlayMode,
    Pod,
    Rollout,
    Route,
    Scaling,
    Service,
    Spec,
    read_duration,
)
from forebay_operator.spec.parsing import InvalidSpec, parse_endpoint
from forebay_operator.spec.source import Source, parse_source
from forebay_operator.spec.validation import MAX_NAME_LENGTH, PRODUCT_LABELS, REFUSED_VARIABLES

__all__ = [
    "MAX_NAME_LENGTH",
    "PRODUCT_LABELS",
    "REFUSED_VARIABLES",
    "SERVED_NAME_VARIABLES",
    "Adapter",
    "Auth",
    "Endpoint",
    "Gpu",
    "InvalidSpec",
    "Manifest",
    "ModelCache",
    "OverlayMode",
    "Pod",
    "Rollout",
    "Route",
    "Scaling",
    "Service",
    "Source",
    "Spec",
    "parse_endpoint",
    "parse_source",
    "read_duration",
]
