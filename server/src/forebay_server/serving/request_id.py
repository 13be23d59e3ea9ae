"""x-request-id: on every answer, so that a client's report can be found in the log. vLLM makes its own ids of it."""

from collections.abc import Awaitable

from forebay_protocol import request_id
from forebay_server.asgi import Message, Scope, Send, header

HEADER = request_id.HEADER.encode()

STATE = "forebay_request_id"
"""The id's name in the request's state: an exception that nobody handles is answered outside of the gate."""


def on_both(scope: Scope, send: Send) -> tuple[Scope, Send]:
    """The request with exactly one id, the client's or a new one, and a `send` that puts it on the answer.

    The wrapped `send` is no coroutine of its own: a streamed token costs one plain call more.
    """
    given = header(scope, HEADER)
    identity = request_id.choose_id(given)
    line = (HEADER, identity.encode())
    scope.setdefault("state", {})[STATE] = identity
    if identity != given:
        scope = {**scope, "headers": [*(each for each in scope["headers"] if each[0] != HEADER), line]}

    def send_with_id(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = [each for each in message.get("headers", ()) if each[0].lower() != HEADER]
            message = {**message, "headers": [*headers, line]}
        return send(message)

    return scope, send_with_id
