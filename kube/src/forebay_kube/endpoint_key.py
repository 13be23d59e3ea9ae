"""The key of an InferenceEndpoint."""

EndpointKey = tuple[str, str]
"""Namespace and name."""


def format_key(key: EndpointKey) -> str:
    """NAMESPACE/NAME."""
    return "/".join(key)


def parse_key(text: str) -> EndpointKey:
    """The key that `format_key` wrote. A text without a slash is a namespace with an empty name."""
    namespace, _, name = text.partition("/")
    return namespace, name
