"""The headers that every answer gets, whoever made it: the gate, vLLM's app, or a stream."""

import re
import socket
from collections.abc import Awaitable
from typing import Any

from forebay_protocol import pod, request_id
from forebay_server.asgi import Message, Scope, Send, header

REQUEST_ID = request_id.HEADER.encode()
"""So that a client's report can be found in the log. vLLM makes its own ids of it."""

STATE = "forebay_request_id"
"""The id's name in the request's state: an exception that nobody handles is answered outside of the gate."""

UNBUFFERED = {b"cache-control": b"no-cache", b"x-accel-buffering": b"no"}
"""What keeps proxies from holding a stream back; the second is nginx's and what follows it."""

LEFT_OUT = b"x-forebay-tools-left-out"
"""On an answer: tools that only the API owner's servers can run, so that the model was not told of them."""

IGNORED = b"x-forebay-ignored"
"""On an answer: fields of the request that had no effect (unsupported_fields)."""

LEFT_OUT_STATE, IGNORED_STATE = "forebay_left_out", "forebay_ignored"
"""Where both are in the request's state."""

_UNFIT_ITEM = re.compile(r"[^A-Za-z0-9_.;=-]")
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")
"""What an item with its suggestion, or a name, may have that a header must not."""

WORKER = (pod.WORKER_ID.encode(), _UNFIT.sub("?", socket.gethostname()).encode())
"""Which pod answers: Kubernetes makes its name that of the host. RunPod's load balancer names the worker so."""

_READABLE = (REQUEST_ID, b"retry-after", LEFT_OUT, IGNORED, WORKER[0])
EXPOSED = (b"access-control-expose-headers", b", ".join(_READABLE))
"""What pages of other sites may read besides the body, where they may read the answer at all (CORS)."""


def complete_headers(scope: Scope, send: Send) -> tuple[Scope, Send]:
    """The request with exactly one id, the client's or a new one, and a `send` that completes the answer's headers.

    The wrapped `send` is no coroutine of its own: a streamed token costs one plain call more.
    """
    given = header(scope, REQUEST_ID)
    identity = request_id.choose_id(given)
    line = (REQUEST_ID, identity.encode())
    scope.setdefault("state", {})[STATE] = identity
    if identity != given:
        scope = {**scope, "headers": [*(each for each in scope["headers"] if each[0] != REQUEST_ID), line]}

    def send_completed(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = [each for each in message.get("headers", ()) if each[0].lower() != REQUEST_ID]
            missing = _missing({name.lower(): it for name, it in headers})
            if left_out := scope["state"].get(LEFT_OUT_STATE):
                value = ", ".join(_UNFIT.sub("?", name[:64]) for name in left_out[:16])
                missing.append((LEFT_OUT, value.encode()))
            if ignored := scope["state"].get(IGNORED_STATE):
                value = ", ".join(_UNFIT_ITEM.sub("?", item) for item in ignored)
                missing.append((IGNORED, value.encode()))
            message = {**message, "headers": [*headers, line, *missing]}
        return send(message)

    return scope, send_completed


def add_ignored(state: Any, names: tuple[str, ...]) -> None:
    """Name further fields without effect in the `state` of their request."""
    if names:
        setattr(state, IGNORED_STATE, (*getattr(state, IGNORED_STATE, ()), *names))


def _missing(headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """The headers that an answer with these needs besides."""
    needed = [WORKER, *([EXPOSED] if b"access-control-allow-origin" in headers else [])]
    if headers.get(b"content-type", b"").startswith(b"text/event-stream"):
        needed += UNBUFFERED.items()
    return [(name, value) for name, value in needed if name not in headers]
