"""The Secret that holds an endpoint's key, for endpoints that name none of their own."""

import base64
import secrets

from forebay_operator import names
from forebay_operator.resources.meta import build_metadata
from forebay_operator.types import Endpoint, Manifest

KEY_ENTRY = "api-key"


def build_key_secret(endpoint: Endpoint) -> Manifest:
    """A Secret with a fresh random key of 256 bits. It is created once and never applied again."""
    key = f"fb_{secrets.token_urlsafe(32)}"
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": build_metadata(endpoint, names.key_secret_name(endpoint.name)),
        "data": {KEY_ENTRY: base64.b64encode(key.encode()).decode()},
    }
