"""A middleware, for vLLM's --middleware, that writes what the app of a running server has: see routes.py.

Any user could add it, so the app is listed as vLLM and the plugin have made it.
"""

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, get_args

VARIABLE = "FOREBAY_TEST_ROUTES"
"""Names the file that is written."""

Scope = dict[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


class RouteLister:
    """When the app starts it writes {"tasks", "known tasks", "routes": [[method, path, name], …]}."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            app = scope["app"]
            write(await listed(app))
            # The server sends no text past a user's middleware, which this one need not see.
            app.user_middleware = [each for each in app.user_middleware if each.cls is not RouteLister]
        await self._app(scope, receive, send)


MIDDLEWARE = f"{__name__}.{RouteLister.__name__}"


async def listed(app: Any) -> dict[str, Any]:
    """The tasks of the model, those of this vLLM, and the routes of the app."""
    from vllm.tasks import SupportedTask  # noqa: PLC0415 - the tests read this module without vLLM

    return {
        "tasks": await app.state.engine_client.get_supported_tasks(),
        "known tasks": get_args(SupportedTask),
        "routes": [row for route in app.routes for row in rows(route)],
    }


def write(content: dict[str, Any]) -> None:
    Path(os.environ[VARIABLE]).write_text(json.dumps(content))


def rows(route: Any) -> list[list[str]]:
    """A row for each method; MOUNT and WEBSOCKET are methods here, HEAD belongs to GET."""
    kinds = {kind.__name__ for kind in type(route).__mro__}
    if "Route" in kinds:
        methods = set(route.methods) - {"HEAD"}
    else:
        methods = {"WEBSOCKET" if "WebSocketRoute" in kinds else "MOUNT"}
    return [[method, route.path, route.name] for method in sorted(methods)]
