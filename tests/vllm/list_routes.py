"""A middleware for vLLM's --middleware. When the server starts it writes the app's routes and tasks to a file.

conftest.py adds it to the shared servers; test_routes.py compares the file with routes.py.
"""

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, get_args

VARIABLE = "FOREBAY_TEST_ROUTES"
"""The environment variable with the path of the file."""

Scope = dict[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


class RouteLister:
    """Writes {"tasks", "known tasks", "routes": [[method, path, name], …]} when the app starts."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            app = scope["app"]
            write(await listed(app))
            # With a user's middleware in the list, forebay-server does not stream text directly to the socket.
            app.user_middleware = [each for each in app.user_middleware if each.cls is not RouteLister]
        await self._app(scope, receive, send)


MIDDLEWARE = f"{__name__}.{RouteLister.__name__}"


async def listed(app: Any) -> dict[str, Any]:
    """The model's tasks, all tasks of this vLLM, and the routes of the app."""
    from vllm.tasks import SupportedTask  # noqa: PLC0415 - the tests read this module without vLLM

    return {
        "tasks": await app.state.engine_client.get_supported_tasks(),
        "known tasks": get_args(SupportedTask),
        "routes": [row for route in app.routes for row in rows(route)],
    }


def write(content: dict[str, Any]) -> None:
    Path(os.environ[VARIABLE]).write_text(json.dumps(content))


def rows(route: Any) -> list[list[str]]:
    """One row for each method. MOUNT and WEBSOCKET count as methods; HEAD is omitted, as it comes with GET."""
    kinds = {kind.__name__ for kind in type(route).__mro__}
    if "Route" in kinds:
        methods = set(route.methods) - {"HEAD"}
    else:
        methods = {"WEBSOCKET" if "WebSocketRoute" in kinds else "MOUNT"}
    return [[method, route.path, route.name] for method in sorted(methods)]
