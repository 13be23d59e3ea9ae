"""The key of an InferenceEndpoint.

Operator and gateway use it as the key of queues, caches and stores.
"""

from collections.abc import Mapping
from typing import Any

EndpointKey = tuple[str, str]
"""Namespace and name."""


def key_of_endpoint(manifest: Mapping[str, Any]) -> EndpointKey:
    """The key of an endpoint as the API server has it."""
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]


def format_key(key: EndpointKey) -> str:
    """Format a key as NAMESPACE/NAME."""
    return "/".join(key)


def parse_key(text: str) -> EndpointKey:
    """The key that `format_key` wrote. A text without a slash is a namespace with an empty name."""
    namespace, _, name = text.partition("/")
    return namespace, name
