"""The endpoint plugin that vLLM loads by its entry point. It adds Forebay's routes, error shapes and engine watch."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import ClientError
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from forebay_protocol.request_id import HEADER
from forebay_server import vllm_compat
from forebay_server.api_compat import fill_in
from forebay_server.api_compat.max_tokens import STRICT
from forebay_server.app import PLUGIN, current
from forebay_server.lifecycle.startup import Step
from forebay_server.serving import response_headers
from forebay_server.serving.errors import MEDIA_NOT_FETCHED, of_validation
from forebay_server.serving.extra_routes import add_routes, router_error
from forebay_server.serving.route_overrides import error_response, refuse_unparsed, replace_routes, reshape
from forebay_server.serving.streams import tap_engine

ExceptionHandler = Callable[[Request, Exception], Awaitable[Response]]


class ForebayPlugin:
    """See vllm.plugins.endpoint_plugins.interface.EndpointPlugin."""

    name = PLUGIN
    required_tasks = None

    def attach_router(self, app: Any) -> None:
        """Replace and add routes. vLLM calls it when it has built its app."""
        current().state.step = Step.WARMING_UP
        self._app = app
        replace_routes(app)
        add_routes(app)

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Wrap vLLM's exception handlers, which exist by now, and attach the engine."""
        handlers: dict[Any, ExceptionHandler] = self._app.exception_handlers
        for kind, handler in list(handlers.items()):
            self._app.add_exception_handler(kind, shape_answer(handler))
        self._app.add_exception_handler(HTTPException, router_error)
        self._app.add_exception_handler(ClientError, media_error)
        self._app.add_exception_handler(RequestValidationError, validation_error)
        # SageMaker's library, which vLLM uses, has already built the stack with the old handlers.
        self._app.middleware_stack = self._app.build_middleware_stack()
        process = current()
        setattr(state, STRICT, process.strict_max_tokens)
        process.observe(engine_client, state, args)
        tap_engine(engine_client)
        process.tasks = await engine_client.get_supported_tasks()
        generates = "generate" in process.tasks
        setattr(
            state,
            fill_in.FILL_IN_STATE,
            fill_in.find_fill_in(vllm_compat.token_id_of(engine_client)) if generates else None,
        )


def shape_answer(handler: ExceptionHandler) -> ExceptionHandler:
    """Wrap a handler of vLLM, so that its answer has the shape of the called API."""

    async def wrapper(request: Request, error: Exception) -> Response:
        answer = await handler(request, error)
        if is_local_file(error):
            return await media_error(request, error)
        unparsed = refuse_unparsed(request) if answer.status_code >= 500 else None
        answer = unparsed or reshape(answer, request)
        answer.headers[HEADER] = getattr(request.state, response_headers.REQUEST_ID_STATE, "")
        return answer

    return wrapper


async def media_error(request: Request, error: Exception) -> Response:
    """Answer a request whose image, sound or video could not be fetched from its URL.

    The answer omits the cause, so that clients cannot probe the network of this pod.
    """
    answer = error_response(MEDIA_NOT_FETCHED, request.url.path)
    answer.headers[HEADER] = getattr(request.state, response_headers.REQUEST_ID_STATE, "")
    return answer


async def validation_error(request: Request, error: Exception) -> Response:
    """Answer a request whose fields do not match the route."""
    assert isinstance(error, RequestValidationError)
    answer = error_response(of_validation(error.errors(), error.body), request.url.path)
    answer.headers[HEADER] = getattr(request.state, response_headers.REQUEST_ID_STATE, "")
    return answer


def is_local_file(error: Exception) -> bool:
    """Whether the error is the RuntimeError by which vLLM rejects the URL of a local file."""
    return isinstance(error, RuntimeError) and str(error).startswith("Cannot load local files")
