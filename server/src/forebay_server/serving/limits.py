"""Limits of a pod: requests in flight, and the size and the duration of a request's body.

The app creates them from the settings, and the middleware applies them to each request.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial

from forebay_protocol.errors import ApiDialect, ApiError
from forebay_server.asgi import Message, Receive, Scope, Send, header
from forebay_server.serving import errors

BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})

LINGER_SECONDS = 5.0
"""Seconds for which the rest of a rejected body is read. If it were not read, a client that writes before it reads
would get a connection reset instead of the answer."""


@dataclass(frozen=True)
class BodyLimits:
    """See settings.DESCRIPTIONS."""

    in_flight: int = 2048
    body_bytes: int = 32 << 20
    body_seconds: float = 60


class BodyRefused(Exception):
    """The body is too large or too slow. The exception has the error for the answer."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


class Disconnected(Exception):
    """The client disconnected before its request was complete."""


async def read_body(scope: Scope, receive: Receive, limits: BodyLimits) -> bytes:
    """Read the whole body. Raises BodyRefused and Disconnected."""
    declared = header(scope, b"content-length")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limits.body_bytes):
        raise BodyRefused(errors.too_large(limits.body_bytes))
    try:
        async with asyncio.timeout(limits.body_seconds):
            return await _collect(receive, limits.body_bytes)
    except TimeoutError as error:
        raise BodyRefused(errors.SLOW_BODY) from error


def replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body as one message, then the messages of the original `receive`."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


@dataclass(frozen=True)
class LingeringRefusal:
    """An app that answers with `error`, discards the rest of the body, and then closes the connection."""

    error: ApiError
    api: ApiDialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await errors.send_error(self.error, partial(_send_without_end, send), self.api)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b""})


async def _send_without_end(send: Send, message: Message) -> None:
    await send({**message, "more_body": True} if message["type"] == "http.response.body" else message)


async def _collect(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(part)
        if size > limit:
            raise BodyRefused(errors.too_large(limit))
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
