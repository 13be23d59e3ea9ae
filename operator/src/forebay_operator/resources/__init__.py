"""Builds the desired children of an endpoint. Pure; one module for each kind of object. The reconciler calls it."""

from forebay_operator import labels
from forebay_operator.resources.claim import build_claim
from forebay_operator.resources.deployment import build_deployment
from forebay_operator.resources.disruption_budget import build_disruption_budget
from forebay_operator.resources.gateway_slice import build_gateway_slice
from forebay_operator.resources.network_policy import build_network_policy
from forebay_operator.resources.route import build_route
from forebay_operator.resources.secret import build_key_secret
from forebay_operator.resources.service import build_service
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, Manifest

__all__ = [
    "build_claim",
    "build_deployment",
    "build_disruption_budget",
    "build_gateway_slice",
    "build_key_secret",
    "build_network_policy",
    "build_route",
    "build_service",
    "build_unwatched",
    "list_obsolete",
]


def build_unwatched(endpoint: Endpoint, settings: Settings) -> list[Manifest]:
    """Build the unwatched children. They change only with the endpoint or with the operator's settings."""
    optional = build_claim(endpoint), build_network_policy(endpoint, settings)
    return [build_disruption_budget(endpoint), *(each for each in optional if each)]


def list_obsolete(endpoint: Endpoint, settings: Settings) -> list[tuple[str, str]]:
    """List kind and name of unwatched children that an earlier spec may have created and the current spec does not
    want.

    The caller deletes only those that the endpoint owns: a claim under deletionPolicy Retain has no owner and stays.
    """
    claim = labels.cache_claim_name(endpoint.name)
    wanted = endpoint.cache.size or endpoint.cache.claim_name == claim
    obsolete = [] if wanted else [("PersistentVolumeClaim", claim)]
    if not build_network_policy(endpoint, settings):
        obsolete.append(("NetworkPolicy", endpoint.name))
    return obsolete
