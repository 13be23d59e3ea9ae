"""Decides which defaults an endpoint gets. For resources and cache, it may keep the defaults that its pods have.

A changed default of resources or cache must not restart all endpoints at the same time, and the storage class of a
claim cannot change. So an existing endpoint keeps these defaults until its pods change for another reason. The
reconciler calls this module.
"""

from dataclasses import replace

from forebay_operator import labels
from forebay_operator.resources.deployment import find_revision
from forebay_operator.settings import Settings
from forebay_operator.spec import (
    NO_DEFAULTS,
    Endpoint,
    EndpointDefaults,
    InvalidSpec,
    Manifest,
    complete_endpoint,
    parse_defaults,
)


def choose_defaults(endpoint: Endpoint, settings: Settings, deployment: Manifest | None) -> EndpointDefaults:
    """Return the defaults for an endpoint. Without a Deployment, these are the current defaults."""
    current = settings.defaults
    if deployment is None:
        return current
    kept = _read_kept(deployment)
    if (kept.resources, kept.cache) == (current.resources, current.cache):
        return current
    before = replace(current, resources=kept.resources, cache=kept.cache)
    if find_revision(complete_endpoint(endpoint, before), settings) == _revision_of(deployment):
        return before
    return replace(current, cache=kept.cache) if kept.cache != NO_DEFAULTS.cache else current


def _read_kept(deployment: Manifest) -> EndpointDefaults:
    annotations = deployment["metadata"].get("annotations") or {}
    try:
        return parse_defaults(annotations.get(labels.DEFAULTS_ANNOTATION, ""))
    except InvalidSpec:  # somebody else wrote the annotation
        return NO_DEFAULTS


def _revision_of(deployment: Manifest) -> str | None:
    metadata = deployment["spec"]["template"].get("metadata") or {}
    return (metadata.get("annotations") or {}).get(labels.REVISION_ANNOTATION)
