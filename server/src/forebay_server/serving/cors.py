"""CORS headers for answers that do not come from vLLM's app. Without them a page of another site cannot read them."""

import copy
from typing import Any

from forebay_server.asgi import App, Receive, Scope, Send

MIDDLEWARE = "CORSMiddleware"
"""The class of Starlette that vLLM sets up by ALLOWED_ORIGINS and the variables beside it."""


class CorsHeaders:
    """What vLLM's own CORS middleware adds, for answers made outside of it."""

    def __init__(self, app: App) -> None:
        """`app` is the outermost of a chain of middlewares, each with the next as its `app`."""
        found: Any = app
        while found is not None and type(found).__name__ != MIDDLEWARE:
            found = getattr(found, "app", None)
        self._middleware = found

    async def answer(self, answer: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Have `answer` answer a request, with the headers that vLLM's app would add."""
        if self._middleware is None:
            await answer(scope, receive, send)
            return
        middleware = copy.copy(self._middleware)
        middleware.app = answer
        await middleware(scope, receive, send)
