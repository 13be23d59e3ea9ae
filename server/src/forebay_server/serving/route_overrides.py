"""Routes that replace vLLM's own by path and method. They differ only in how an answer is written.

They call vLLM's handlers as vLLM's routes do. If vLLM's own stream of text is right already, vLLM's own route answers.
"""

import functools
import inspect
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from forebay_protocol.errors import MODEL_MISSING, ApiDialect, ApiError
from forebay_protocol.routes import PROBES
from forebay_server import vllm_compat
from forebay_server.api_compat import anthropic, fill_in, forced_tools, legacy_functions, openai, responses
from forebay_server.api_compat.incompatible import Incompatible
from forebay_server.api_compat.max_tokens import STRICT, clamp_max_tokens
from forebay_server.api_compat.thinking_budget import drop_unenforceable_budget
from forebay_server.api_compat.unsupported_fields import find_ignored
from forebay_server.asgi import DIRECT
from forebay_server.serving import errors, response_headers, routes, streams

logger = logging.getLogger(__name__)

RouteHandler = Callable[..., Awaitable[Any]]

LOAD_HEADER = "endpoint-load-metrics-format"
"""A request header that asks for vLLM's load in the answer's headers. Only vLLM's own route supports it."""


def replace_routes(app: FastAPI) -> None:
    """Replace the routes. Call it once, after vLLM has attached its own."""
    for route in [route for route in app.routes if isinstance(route, APIRoute) and _is_served(route.path)]:
        make = REPLACED.get((route.path, *sorted(route.methods)))
        endpoint = make(route.endpoint) if make else route.endpoint
        app.add_api_route(
            route.path,
            shape_errors(endpoint, route.path),
            methods=list(route.methods),
            dependencies=route.dependencies,
            responses=route.responses,
            response_model=None,
            name=route.name,
        )


class ShapedError(JSONResponse):  # type: ignore[misc]
    """An error in the shape of the called API."""


def error_response(error: ApiError, path: str) -> JSONResponse:
    """The answer with `error` to a request for `path`."""
    return ShapedError(error.content(routes.read_path(path).api), error.status, dict(error.headers))


def reshape(response: Response, request: Request | None) -> Response:
    """Convert vLLM's error to the shape of the called API, or to OpenAI's without a request.

    Returns other answers as they are.
    """
    if response.status_code < 400 or not isinstance(response, JSONResponse) or isinstance(response, ShapedError):
        return response
    body = json.loads(bytes(response.body))
    content: Mapping[str, Any] = body if isinstance(body, dict) else {"detail": body}
    return _vllm_error(response.status_code, content, request)


def _vllm_error(status: int, content: Mapping[str, Any], request: Request | None) -> JSONResponse:
    error = errors.of_vllm(status, content)
    if request is None:
        return error_response(error, "")
    omitted = getattr(request.state, response_headers.OMITTED_TOOLS_STATE, ())
    return error_response(errors.name_omitted_tools(error, omitted), request.url.path)


def refuse_unparsed(request: Request) -> Response | None:
    """The answer to a request whose body vLLM failed to parse; None if the body was parsed.

    vLLM's validators raise AttributeError for some wrong types (seen with 0.32: "structured_outputs": true).
    """
    if getattr(request.state, "parsed", False):
        return None
    error = ApiError(400, "The request's body has a value of a wrong type.", "invalid_type")
    return error_response(error, request.url.path)


def shape_errors(endpoint: RouteHandler, path: str) -> RouteHandler:
    """Wrap the `endpoint` of a path, so that the errors that it returns have the shape of the called API.

    The answer's headers name the fields of the request that have no effect.
    """
    names = inspect.signature(endpoint).parameters
    request_name = next((name for name in names if name in ("raw_request", "request")), "")

    @functools.wraps(endpoint)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        request = kwargs.get("raw_request") or kwargs.get(request_name)
        if isinstance(request, Request):
            request.state.parsed = True
            response_headers.add_ignored(request.state, await _ignored(path, kwargs.get("request"), request))
        answer = await endpoint(*args, **kwargs)
        if isinstance(answer, Response) and answer.status_code >= 400:
            return reshape(answer, request if isinstance(request, Request) else None)
        return answer

    return wrapper


async def _ignored(path: str, body: Any, request: Request) -> tuple[str, ...]:
    """The fields of a request for `path` that have no effect. `body`: the body as vLLM parsed it."""
    if not hasattr(body, "model_fields_set"):
        return ()
    others = await request.json() if body.model_extra is None else body.model_extra  # parsed once already
    stores = getattr(getattr(request.app.state, "openai_serving_responses", None), "enable_store", False)
    return find_ignored(path, body, others, stores=stores)


def _is_served(path: str) -> bool:
    return routes.is_reached(path) and path not in PROBES


@dataclass(frozen=True)
class RouteWriter:
    """Makes Forebay's endpoint from one of vLLM's: it calls vLLM's handler, and writes the answer itself.

    Attributes:
        handler: the name of vLLM's handler in the app's state.
        method: the handler's method.
        write: makes the answer from the method's result and the request. It gets no errors.
        stream: whether `write` can write streams. If not, vLLM's route writes them, except plain text with `text`.
        text: the JSON key of the text in a chunk, with its colon.
        reasons: whether deltas may have reasoning.
        model_required: whether a request must name a model.
        fills_in: whether a request may have a suffix.
    """

    handler: str
    method: str
    write: Callable[[Any, Any], Response]
    stream: bool = False
    text: str = ""
    reasons: bool = False
    model_required: bool = True
    fills_in: bool = False

    def make_endpoint(self, core: RouteHandler) -> RouteHandler:
        """Make the endpoint. `core` is vLLM's."""
        cancelled = vllm_compat.cancelled_with_its_client(functools.partial(self._answer, core))
        counted = vllm_compat.counted_as_load(self._stream_text)

        @functools.wraps(core)
        async def endpoint(request: Any, raw_request: Request) -> Any:
            try:
                self._adapt(request, raw_request)
            except Incompatible as refused:
                return error_response(refused.error, raw_request.url.path)
            return await (counted if self._writes_text(request, raw_request) else cancelled)(request, raw_request)

        return endpoint

    def _adapt(self, request: Any, raw_request: Request) -> None:
        """Change fields that vLLM would refuse or ignore. Raises Incompatible."""
        state = raw_request.app.state
        if not getattr(state, STRICT, False) and raw_request.scope.get(DIRECT) is not None:  # None: from a job
            clamp_max_tokens(request, state.vllm_config.model_config.max_model_len)
        if self.fills_in:
            fill_in.apply_suffix(request, getattr(state, fill_in.FILL_IN_STATE, None))
        response_headers.add_ignored(raw_request.state, drop_unenforceable_budget(request, state.vllm_config))

    def _writes_text(self, request: Any, raw_request: Request) -> bool:
        """Whether the answer is a stream of plain text, which Forebay writes."""
        state = raw_request.app.state
        named = request.model or not self.model_required
        if not self.text or not named or LOAD_HEADER in raw_request.headers:
            return False
        return streams.is_plain(request, getattr(state, self.handler, None), state)

    async def _stream_text(self, request: Any, raw_request: Request) -> Any:
        method = self._method_of(getattr(raw_request.app.state, self.handler))
        answer = await streams.answer(method, request, raw_request, streams.TextStream(self.text))
        return _error(answer, raw_request) or answer

    async def _answer(self, core: RouteHandler, request: Any, raw_request: Request) -> Any:
        """Answer by vLLM's handler, or by its route (`core`) if that writes the answer."""
        if self.model_required and not request.model:
            return error_response(MODEL_MISSING, raw_request.url.path)
        forced_tools.bind_arguments(request)
        responses.make_readable(request)
        serving = getattr(raw_request.app.state, self.handler, None)
        if serving is None or (request.stream and not self.stream) or LOAD_HEADER in raw_request.headers:
            answer = await core(request=request, raw_request=raw_request)
            if self.reasons and isinstance(answer, StreamingResponse):
                answer.body_iterator = openai.with_reasoning_content(answer.body_iterator)
                if legacy_functions.wants_functions(request):
                    answer.body_iterator = legacy_functions.with_function_calls(answer.body_iterator)
            return answer
        answer = await self._method_of(serving)(request, raw_request)
        return _error(answer, raw_request) or self.write(answer, request)

    def _method_of(self, serving: Any) -> RouteHandler:
        method: RouteHandler = getattr(serving, self.method)
        return method


def _error(answer: Any, raw_request: Request) -> Response | None:
    """The answer for an error that vLLM's handler returned; None for a reply."""
    if not vllm_compat.is_error(answer):
        return None
    return _vllm_error(answer.error.code, {"error": answer.error.model_dump()}, raw_request)


def _write_chat(answer: Any, request: Any) -> Response:
    reply = openai.complete_chat(answer.model_dump())
    if legacy_functions.wants_functions(request):
        reply = legacy_functions.restore_function_calls(reply)
    return JSONResponse(reply)


def _write_text(answer: Any, request: Any) -> Response:
    return JSONResponse(openai.complete_text(answer.model_dump()))


def _write_message(answer: Any, request: Any) -> Response:
    return JSONResponse(anthropic.complete_message(answer.model_dump(exclude_none=True)))


def _write_response(answer: Any, request: Any) -> Response:
    fields = responses.request_fields(request)
    if hasattr(answer, "__aiter__"):
        return StreamingResponse(_events(answer, fields), media_type="text/event-stream")
    return JSONResponse(responses.complete_response(answer.model_dump(mode="json", by_alias=True), fields))


async def _events(events: AsyncIterator[Any], fields: dict[str, Any]) -> AsyncIterator[str]:
    try:
        async for event in events:
            kind = getattr(event, "type", "unknown")
            if kind in responses.CORRECTED:
                corrected = responses.complete_event(event.model_dump(mode="json", by_alias=True), fields)
                kind = corrected["type"]
                data = json.dumps(corrected, ensure_ascii=False, separators=(",", ":"))
            else:
                data = event.model_dump_json(by_alias=True)
            yield f"event: {kind}\ndata: {data}\n\n"
    except ValidationError:  # vLLM 0.32 cannot put an error of its engine into an event
        logger.exception("an answer of the Responses API was interrupted")
        yield errors.INTERNAL.event(ApiDialect.RESPONSES).decode()


def _models(core: RouteHandler) -> RouteHandler:
    async def show_available_models(raw_request: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": await model_cards(raw_request)})

    return show_available_models


async def model_cards(request: Request) -> list[dict[str, Any]]:
    """The models that /v1/models lists."""
    listed = await request.app.state.openai_serving_models.show_available_models()
    return [openai.complete_model(card.model_dump()) for card in listed.data]


REPLACED: dict[tuple[str, ...], Callable[[RouteHandler], RouteHandler]] = {
    ("/v1/models", "GET"): _models,
    ("/v1/chat/completions", "POST"): RouteWriter(
        "openai_serving_chat", "create_chat_completion", _write_chat, text='"content":', reasons=True
    ).make_endpoint,
    ("/v1/completions", "POST"): RouteWriter(
        "openai_serving_completion",
        "create_completion",
        _write_text,
        text='"text":',
        model_required=False,
        fills_in=True,
    ).make_endpoint,
    ("/v1/responses", "POST"): RouteWriter(
        "openai_serving_responses", "create_responses", _write_response, stream=True
    ).make_endpoint,
    ("/v1/messages", "POST"): RouteWriter(
        "anthropic_serving_messages", "create_messages", _write_message
    ).make_endpoint,
}
"""Path and method -> function that makes Forebay's endpoint from vLLM's."""
