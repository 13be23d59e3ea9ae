"""The one ASGI middleware around vLLM's app: both base URLs, the key check, the drain, and readiness.

Only the head of a request is looked at: bodies and streamed tokens pass from vLLM's app to the socket untouched.
"""

import logging
from typing import Protocol

from forebay_server import errors, routes
from forebay_server.asgi import App, Message, Receive, Scope, Send, header
from forebay_server.state import ServerState, Step

log = logging.getLogger(__name__)


class Keys(Protocol):
    def accepts(self, key: str) -> bool:
        """Whether `key` is valid now."""


class Lifecycle(Protocol):
    """What happens around the time in which requests are served."""

    async def warm_up(self, app: App, scope: Scope) -> None:
        """Returns once the model has answered; raises when it cannot."""

    def serving(self) -> None:
        """Called when requests may come in."""


class Gate:
    """Lets in what may come in, under the path that vLLM knows. `keys` None: anyone may call."""

    def __init__(self, app: App, state: ServerState, keys: Keys | None, lifecycle: Lifecycle) -> None:
        self.app = app
        self.state = state
        self.keys = keys
        self.lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        if error := self._refusal(scope):
            await _refuse(error, scope, send)
            return
        path = routes.canonical(scope["path"])
        if path != scope["path"]:
            raw_path = scope.get("raw_path") or scope["path"].encode()
            scope = {**scope, "path": path, "raw_path": raw_path[raw_path.index(b"/openai/v1") + len(b"/openai") :]}
        with self.state.in_flight.one():
            await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> errors.ApiError | None:
        """Why the request may not come in. The key is asked for first, so that nothing is learnt without one."""
        if self.state.draining:
            return errors.DRAINING
        if scope["path"] in routes.OPEN:
            return None
        method = scope.get("method", "GET")
        if self.keys is not None and method != "OPTIONS":
            scheme, _, key = header(scope, b"authorization").partition(" ")
            if scheme.lower() != "bearer" or not key.strip():
                return errors.MISSING_KEY
            if not self.keys.accepts(key.strip()):
                return errors.WRONG_KEY
        if not routes.is_served(routes.canonical(scope["path"])):
            return errors.not_found(method, scope["path"])
        return None

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold back "startup complete", and with it the listening socket, until the model has answered."""

        async def send_when_warm(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                try:
                    await self.lifecycle.warm_up(self.app, scope)
                except Exception as error:
                    log.exception("The model did not answer the first request")
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                self.state.step = Step.READY
                self.lifecycle.serving()
            await send(message)

        await self.app(scope, receive, send_when_warm)


async def _refuse(error: errors.ApiError, scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": error.message})
    else:
        await error.send(send)
