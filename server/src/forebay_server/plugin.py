"""The endpoint plugin that vLLM loads by its entry point: errors of the framework, the engine's health, the task."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from forebay_server import errors
from forebay_server.process import PLUGIN, current
from forebay_server.state import Step


async def openai_error(request: Request, error: Exception) -> JSONResponse:
    """A 404 or 405 of the router in OpenAI's shape; vLLM leaves those as {"detail": …}."""
    assert isinstance(error, HTTPException)
    reply = errors.of_status(error.status_code, str(error.detail), request.method, request.url.path)
    return JSONResponse(reply.content(), error.status_code, error.headers)


class ForebayPlugin:
    """See vllm.plugins.endpoint_plugins.interface.EndpointPlugin."""

    name = PLUGIN
    required_tasks = None

    def attach_router(self, app: Any) -> None:
        current().state.step = Step.WARMING_UP
        app.add_exception_handler(HTTPException, openai_error)

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        process = current()
        process.state.engine_dead = lambda: bool(engine_client.errored)
        process.tasks = await engine_client.get_supported_tasks()
