"""Sends the requests of jobs: here within this process. Another runner may send them over HTTP."""

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from forebay_server.asgi import DIRECT, App, Scope
from forebay_server.asgi_client import AppReply, content_headers, open_request

PASSED_ON = frozenset({b"x-request-id", b"traceparent", b"tracestate", b"user-agent"})
"""Headers that are copied from the job's request to the inner request."""


class Transport(Protocol):
    """Sends one request. Leaving the context ends the request, finished or not."""

    def send(self, method: str, path: str, body: dict[str, Any] | None) -> AbstractAsyncContextManager[AppReply]:
        """Send a request. The block reads the reply."""


class WithinProcess:
    """Sends requests to an ASGI app, in the scope of the job's request."""

    def __init__(self, app: App, scope: Scope) -> None:
        self._app = app
        self._scope = scope

    @asynccontextmanager
    async def send(self, method: str, path: str, body: dict[str, Any] | None) -> AsyncIterator[AppReply]:
        content = b"" if body is None else json.dumps(body).encode()
        async with open_request(self._app, self._inner_scope(method, path, content), content) as reply:
            yield reply

    def _inner_scope(self, method: str, path: str, content: bytes) -> Scope:
        headers = [(name, value) for name, value in self._scope["headers"] if name in PASSED_ON]
        path, _, query = path.partition("?")
        return {
            **self._scope,
            DIRECT: None,
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [*headers, *content_headers(content)],
            "state": dict(self._scope.get("state", {})),
        }
