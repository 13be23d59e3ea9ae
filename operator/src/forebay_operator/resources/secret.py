"""The Secrets that are made for an endpoint: its key, where it names none of its own, and the token of its control."""

import base64
import secrets

from forebay_operator import labels
from forebay_operator.resources.meta import build_metadata
from forebay_operator.spec import Endpoint, Manifest

KEY_ENTRY = "api-key"
CONTROL_ENTRY = "token"


def build_key_secret(endpoint: Endpoint) -> Manifest:
    """A Secret with a fresh random key of 256 bits. It is created once and never applied again."""
    return _build_secret(endpoint, labels.key_secret_name(endpoint.name), KEY_ENTRY, "fb_")


def build_control_secret(endpoint: Endpoint) -> Manifest:
    """A Secret with a fresh random token for the pods' engine control, which no user's key opens. Created once."""
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
    """The token in the Secret that was made for engine control; "" where that is gone."""
    value = ((secret or {}).get("data") or {}).get(CONTROL_ENTRY, "")
    return base64.b64decode(value).decode()
