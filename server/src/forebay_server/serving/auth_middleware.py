"""The ASGI middleware around vLLM's app: URLs, key check, limits, drain and readiness.

It rewrites the body of a request that has fields in a form that vLLM does not accept. It adds a few headers to an
answer. Streams of vLLM pass to the socket unchanged.
"""

import logging
from typing import Protocol
from urllib.parse import quote

from forebay_protocol.api_key import read_key
from forebay_protocol.errors import MISSING_KEY, WRONG_KEY, ApiError
from forebay_protocol.routes import OWN_URLS, not_found
from forebay_server.api_compat.incompatible import Incompatible
from forebay_server.api_compat.request_fields import adapt_body
from forebay_server.asgi import DIRECT, App, Message, Receive, Scope, Send, header, is_preflight
from forebay_server.lifecycle.startup import Step
from forebay_server.lifecycle.state import ServerState
from forebay_server.serving import errors, response_headers, routes
from forebay_server.serving.cors import answer_with_cors
from forebay_server.serving.errors import refusal
from forebay_server.serving.key_ring import KeyRing
from forebay_server.serving.limits import (
    BODILESS,
    BodyLimits,
    BodyRefused,
    Disconnected,
    LingeringRefusal,
    read_body,
    replaying,
)

logger = logging.getLogger(__name__)


class Lifecycle(Protocol):
    """Hooks before and after the start of serving."""

    async def warm_up(self, app: App, scope: Scope) -> None:
        """Returns once the model has answered; raises if it cannot answer."""

    def serving(self) -> None:
        """Called when the server accepts requests."""


class AuthMiddleware:
    """Passes authorized requests to `app` under the path that vLLM knows. If `keys` is None, no key is required."""

    def __init__(
        self,
        app: App,
        state: ServerState,
        keys: KeyRing | None,
        lifecycle: Lifecycle,
        limits: BodyLimits | None = None,
    ) -> None:
        self.app = app
        self.state = state
        self.keys = keys
        self.lifecycle = lifecycle
        self.limits = limits or BodyLimits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        scope[DIRECT] = send
        scope, send = response_headers.complete_headers(scope, send)
        route = routes.read_path(scope["path"])
        if error := self._refusal(scope, route):
            await answer_with_cors(refusal(error, route.api), scope, receive, send)
            return
        # autoscalers detect an idle server by the requests begun: listing models must not keep it running
        with self.state.in_flight.one(needs_engine=scope["method"] == "POST"):
            try:
                if scope["method"] not in BODILESS:
                    receive = await self._with_body(scope, route.path, receive)
            except Incompatible as incompatible:
                await answer_with_cors(refusal(incompatible.error, route.api), scope, receive, send)
            except BodyRefused as refused:
                answer = LingeringRefusal(refused.error, route.api)
                await answer_with_cors(answer, scope, receive, send)
            except Disconnected:
                return
            else:
                await self.app(_as_vllm_knows_it(scope, route), receive, send)

    async def _with_body(self, scope: Scope, path: str, receive: Receive) -> Receive:
        """A `receive` with the whole, converted body for vLLM. Raises BodyRefused, Disconnected and Incompatible."""
        body = adapt_body(path, await read_body(scope, receive, self.limits))
        scope["state"][response_headers.OMITTED_TOOLS_STATE] = body.omitted
        scope["state"][response_headers.IGNORED_STATE] = body.ignored
        return replaying(body.content, receive)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = routes.read_path(scope["path"])
        if error := self._refusal(scope, route):
            await send({"type": "websocket.close", "code": 1008, "reason": error.message})
            return
        with self.state.in_flight.one():
            await self.app(_as_vllm_knows_it(scope, route), receive, send)

    def _refusal(self, scope: Scope, route: routes.RequestedRoute) -> ApiError | None:
        """Why the request is rejected; None if it is not. The key is checked first, so that routes cannot be probed."""
        if self.state.draining:
            return errors.DRAINING
        if self.state.asleep:
            return errors.ASLEEP
        if route.open:
            return None
        method = scope.get("method", "GET")
        if self.keys is not None and not is_preflight(scope):
            key = _key(scope)
            if not key:
                return MISSING_KEY
            if not self.keys.accepts(key):
                return WRONG_KEY
        if not route.served:
            return errors.not_available(route.absent) if route.absent else not_found(method, scope["path"], OWN_URLS)
        if self.state.in_flight.count >= self.limits.in_flight:
            return errors.TOO_MANY_IN_FLIGHT
        return None

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold back "startup complete", and with it the listening socket, until the model has answered."""

        async def send_when_warm(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                try:
                    await self.lifecycle.warm_up(self.app, scope)
                except Exception as error:
                    logger.exception("The model did not answer the first request")
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                self.state.step = Step.READY
                self.lifecycle.serving()
            await send(message)

        await self.app(scope, receive, send_when_warm)


def _key(scope: Scope) -> str:
    return read_key(header(scope, b"authorization"), header(scope, b"x-api-key"))


def _as_vllm_knows_it(scope: Scope, route: routes.RequestedRoute) -> Scope:
    """The request under the path that vLLM knows. HEAD, which vLLM lacks, becomes GET; uvicorn drops the body."""
    if scope.get("method") == "HEAD":
        scope = {**scope, "method": "GET"}
    if route.path == scope["path"]:
        return scope
    return {**scope, "path": route.path, "raw_path": quote(route.path).encode()}
