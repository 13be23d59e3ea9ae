"""Parses the manifest of an endpoint, fills in defaults and checks it. Pure; the reconciler calls it."""

from forebay_operator.spec.defaults import (
    NO_DEFAULTS,
    EndpointDefaults,
    complete_endpoint,
    parse_defaults,
)
from forebay_operator.spec.endpoint import (
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
    Upgrade,
    UpgradeMode,
    read_duration,
)
from forebay_operator.spec.inheritance import NO_INHERITANCE, Inheritance, Inherited
from forebay_operator.spec.parsing import InvalidSpec, parse_endpoint
from forebay_operator.spec.source import Source, parse_source
from forebay_operator.spec.validation import MAX_NAME_LENGTH, PRODUCT_LABELS, REFUSED_VARIABLES

__all__ = [
    "MAX_NAME_LENGTH",
    "NO_DEFAULTS",
    "NO_INHERITANCE",
    "PRODUCT_LABELS",
    "REFUSED_VARIABLES",
    "Adapter",
    "Auth",
    "Endpoint",
    "EndpointDefaults",
    "Gpu",
    "Inheritance",
    "Inherited",
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
    "Upgrade",
    "UpgradeMode",
    "complete_endpoint",
    "parse_defaults",
    "parse_endpoint",
    "parse_source",
    "read_duration",
]
