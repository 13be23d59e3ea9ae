"""Pure builders: what should exist for an endpoint, one module for each kind of object."""

from forebay_operator.resources.deployment import build_deployment
from forebay_operator.resources.secret import build_key_secret
from forebay_operator.resources.service import build_service

__all__ = ["build_deployment", "build_key_secret", "build_service"]
