"""The headers of every answer, whether the middleware, vLLM's app or a stream creates it.

Each of these three calls this module, because no single place sees all answers.
"""

import re
import socket
from collections.abc import Awaitable
from typing import Any

from forebay_protocol import pod, request_id
from forebay_server.asgi import Message, Scope, Send, header

REQUEST_ID = request_id.HEADER.encode()
"""The request ID, by which a client's report can be found in the log. vLLM derives its own IDs from it."""

REQUEST_ID_STATE = "forebay_request_id"
"""The ID's name in the request's state. Handlers of unhandled exceptions, outside the middleware, read this ID."""

UNBUFFERED = {b"cache-control": b"no-cache", b"x-accel-buffering": b"no"}
"""Headers that keep proxies from buffering a stream. nginx and compatible proxies read the second."""

OMITTED_TOOLS = b"x-forebay-tools-left-out"
"""Header of an answer: tools that only the API vendor's servers can run, so the model did not see them."""

IGNORED = b"x-forebay-ignored"
"""Header of an answer: fields of the request that had no effect (unsupported_fields)."""

OMITTED_TOOLS_STATE, IGNORED_STATE = "forebay_omitted_tools", "forebay_ignored"
"""The names of both lists in the request's state."""

_UNFIT_ITEM = re.compile(r"[^A-Za-z0-9_.;=-]")
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")
"""Characters that are replaced in a header. One set is for an item with its suggestion, one for a name."""

WORKER = (pod.WORKER_ID.encode(), _UNFIT.sub("?", socket.gethostname()).encode())
"""The name of the pod, which is its host name in Kubernetes. RunPod's load balancer has this header too."""

_READABLE = (REQUEST_ID, b"retry-after", OMITTED_TOOLS, IGNORED, WORKER[0])
EXPOSED = (b"access-control-expose-headers", b", ".join(_READABLE))
"""The headers that pages of other sites may read, if CORS lets them read the answer."""


def complete_headers(scope: Scope, send: Send) -> tuple[Scope, Send]:
    """The request with exactly one ID, the client's or a new one, and a `send` that completes the answer's headers.

    The returned `send` is not a coroutine function, so a streamed token costs only one more plain call.
    """
    client_id = header(scope, REQUEST_ID)
    chosen_id = request_id.choose_id(client_id)
    line = (REQUEST_ID, chosen_id.encode())
    scope.setdefault("state", {})[REQUEST_ID_STATE] = chosen_id
    if chosen_id != client_id:
        scope = {**scope, "headers": [*(pair for pair in scope["headers"] if pair[0] != REQUEST_ID), line]}

    def send_completed(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != REQUEST_ID]
            missing = _missing({name.lower(): value for name, value in headers})
            if omitted := scope["state"].get(OMITTED_TOOLS_STATE):
                value = ", ".join(_UNFIT.sub("?", name[:64]) for name in omitted[:16])
                missing.append((OMITTED_TOOLS, value.encode()))
            if ignored := scope["state"].get(IGNORED_STATE):
                value = ", ".join(_UNFIT_ITEM.sub("?", item) for item in ignored)
                missing.append((IGNORED, value.encode()))
            message = {**message, "headers": [*headers, line, *missing]}
        return send(message)

    return scope, send_completed


def add_ignored(state: Any, names: tuple[str, ...]) -> None:
    """Add further fields without effect to the `state` of their request."""
    if names:
        setattr(state, IGNORED_STATE, (*getattr(state, IGNORED_STATE, ()), *names))


def _missing(headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """The headers that an answer with these `headers` lacks."""
    needed = [WORKER, *([EXPOSED] if b"access-control-allow-origin" in headers else [])]
    if headers.get(b"content-type", b"").startswith(b"text/event-stream"):
        needed += UNBUFFERED.items()
    return [(name, value) for name, value in needed if name not in headers]
