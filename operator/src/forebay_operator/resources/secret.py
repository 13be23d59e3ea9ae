"""Builds the generated Secrets of an endpoint: its API key, unless it names a Secret, and the engine control token.

The reconciler creates them. The autoscaler reads the token.
"""

import base64
import secrets

from forebay_operator import labels
from forebay_operator.resources.meta import build_metadata
from forebay_operator.spec import Endpoint, Manifest

KEY_ENTRY = "api-key"
CONTROL_ENTRY = "token"


def build_key_secret(endpoint: Endpoint) -> Manifest:
    """Build a Secret with a new random key of 256 bits. It is created once and never applied again."""
    return _build_secret(endpoint, labels.key_secret_name(endpoint.name), KEY_ENTRY, "fb_")


def build_control_secret(endpoint: Endpoint) -> Manifest:
    """Build a Secret with a new random token for the pods' engine control. Engine control accepts no API
    key of a user.

    It is created once and never applied again.
    """
    return _build_secret(endpoint, labels.control_secret_name(endpoint.name), CONTROL_ENTRY, "fbc_")


def _build_secret(endpoint: Endpoint, name: str, entry: str, prefix: str) -> Manifest:
    value = f"{prefix}{secrets.token_urlsafe(32)}"
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": build_metadata(endpoint, name),
        "data": {entry: base64.b64encode(value.encode()).decode()},
    }


def read_control_token(secret: Manifest | None) -> str:
    """The token in the Secret for engine control; "" if the Secret no longer exists."""
    value = ((secret or {}).get("data") or {}).get(CONTROL_ENTRY, "")
    return base64.b64decode(value).decode()
