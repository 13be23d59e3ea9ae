"""Types of the ASGI specification (asgi.readthedocs.io), and readers of a request's scope.

All middleware and the in-process client use them.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DIRECT = "forebay.send"
"""Key of a request's scope: the HTTP server's own `send`, which bypasses all middleware.

It is for the body of an answer only, after its head was sent through the middleware."""


def header(scope: Scope, name: bytes) -> str:
    """The first value of the request's header `name` (lower case), or ""."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return ""


def is_preflight(scope: Scope) -> bool:
    """Whether this is a CORS preflight request, which browsers send without a key."""
    return scope.get("method") == "OPTIONS" and bool(header(scope, b"access-control-request-method"))
