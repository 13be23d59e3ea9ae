"""Selects the labels and annotations that children inherit from their endpoint. The operator's settings name them.

The settings cannot name all keys: tools that track objects by labels or annotations would mistake the children for
their own objects.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_PATTERN = re.compile(
    r"(?P<domain>[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"(?P<name>\*|[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)"
)
"""A qualified name of Kubernetes, with or without a domain; or a domain with *."""

_ARGO = "Argo CD tracks objects by it, and would prune the children"
_FLUX = "Flux tracks objects by it"
_HELM = "Helm tracks the objects of releases by it"
_APPLY = "kubectl apply tracks objects by it, and would prune the children"
_KUBERNETES = "Kubernetes' own controllers set it"
_OWN = "the operator sets it itself"

REFUSED_DOMAINS = {
    "forebay.dev": _OWN,
    "argocd.argoproj.io": _ARGO,
    "kustomize.toolkit.fluxcd.io": _FLUX,
    "helm.toolkit.fluxcd.io": _FLUX,
    "helm.sh": _HELM,
    "meta.helm.sh": _HELM,
    "applyset.kubernetes.io": _APPLY,
    "kubectl.kubernetes.io": _APPLY,
    "cli-utils.sigs.k8s.io": "kpt and other tools that use cli-utils track objects by it, and would prune the children",
    "config.k8s.io": "kpt and other tools that use cli-utils track objects by it, and would prune the children",
    "kapp.k14s.io": "kapp tracks objects by it, and would delete the children",
    "controller.kubernetes.io": _KUBERNETES,
    "deployment.kubernetes.io": _KUBERNETES,
    "endpointslice.kubernetes.io": _KUBERNETES,
    "kubernetes.io": _KUBERNETES,
}
"""Domain of keys that children cannot inherit -> the reason."""

REFUSED_KEYS = {
    "app.kubernetes.io/instance": _ARGO,
    "app.kubernetes.io/name": _OWN,
    "app.kubernetes.io/managed-by": _OWN,
}
"""Further keys that children cannot inherit -> the reason. Argo CD's default tracking label is
app.kubernetes.io/instance."""


@dataclass(frozen=True)
class Inherited:
    """The labels and annotations that the children of one endpoint inherit."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.labels or self.annotations)


@dataclass(frozen=True)
class Inheritance:
    """The allow-lists of labels and of annotations. An item is a key, or DOMAIN/* for all keys of a domain."""

    labels: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()

    def select(self, metadata: Mapping[str, Any]) -> Inherited:
        """Select the inherited labels and annotations from the metadata of an endpoint."""
        return Inherited(
            _select(metadata.get("labels"), self.labels), _select(metadata.get("annotations"), self.annotations)
        )


NOTHING_INHERITED = Inherited()
NO_INHERITANCE = Inheritance()
"""The default: children inherit no labels and no annotations."""


def check_pattern(pattern: str) -> None:
    """Raise ValueError, with the reason, if an item is not a key or if children cannot inherit it."""
    match = _PATTERN.fullmatch(pattern)
    if not match:
        raise ValueError(f"{pattern!r} is neither a key, such as example.com/team, nor a domain, such as example.com/*")
    domain, is_domain = (match["domain"] or "").rstrip("/"), match["name"] == "*"
    if is_domain and not domain:
        raise ValueError(
            "'*' is not allowed: children never get all keys; give keys, or a domain such as example.com/*"
        )
    if reason := REFUSED_DOMAINS.get(domain) or REFUSED_KEYS.get(pattern):
        raise ValueError(f"{pattern!r} cannot be inherited: {reason}")
    for key, reason in REFUSED_KEYS.items() if is_domain else ():
        if key.startswith(f"{domain}/"):
            raise ValueError(f"{pattern!r} cannot be inherited, because it includes {key}: {reason}; give keys instead")


def _select(values: Mapping[str, str] | None, patterns: tuple[str, ...]) -> dict[str, str]:
    domains = tuple(pattern.removesuffix("*") for pattern in patterns if pattern.endswith("/*"))
    return {
        key: value for key, value in (values or {}).items() if key in patterns or (domains and key.startswith(domains))
    }
