"""What carries the requests of a job: within this process here, over HTTP elsewhere."""

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from forebay_server.asgi import DIRECT, App, Scope
from forebay_server.asgi_client import AppReply, asked, content_headers

PASSED_ON = frozenset({b"x-request-id", b"traceparent", b"tracestate", b"user-agent"})
"""Headers of the job's own request that the request within has too."""


class Transport(Protocol):
    """Carries one request. To leave the context ends the request, finished or not."""

    def send(self, method: str, path: str, body: dict[str, Any] | None) -> AbstractAsyncContextManager[AppReply]: ...


class WithinProcess:
    """Asks an ASGI app, in the scope of the request that brought the job."""

    def __init__(self, app: App, scope: Scope) -> None:
        self._app = app
        self._scope = scope

    @asynccontextmanager
    async def send(self, method: str, path: str, body: dict[str, Any] | None) -> AsyncIterator[AppReply]:
        content = b"" if body is None else json.dumps(body).encode()
        async with asked(self._app, self._inner_scope(method, path, content), content) as reply:
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
