"""Routes that vLLM lacks: one model, moderation, and errors for operations that the loaded model does not support.

The plugin adds them to vLLM's app.
"""

import json
from collections.abc import Collection
from typing import Annotated, Any, get_args, get_origin

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from forebay_protocol.errors import ApiError, shorten
from forebay_protocol.routes import OWN_URLS, not_found
from forebay_server.serving import errors, routes
from forebay_server.serving.openapi_document import served_document
from forebay_server.serving.route_overrides import error_response, model_cards, reshape


def add_routes(app: FastAPI) -> None:
    """Add the routes. Call it once, after vLLM has attached its own."""
    app.router.redirect_slashes = False  # a redirect would lose the host and the prefix that proxies remove
    paths = {route.path for route in app.routes if isinstance(route, APIRoute | APIWebSocketRoute)}
    app.add_api_route("/v1/models/{model:path}", retrieve_model, methods=["GET"], response_model=None)
    if "/classify" in paths:
        app.add_api_route("/v1/moderations", moderate(app), methods=["POST"], response_model=None)
        paths.add("/v1/moderations")
    answer_document = served_document(app)
    for path in routes.DOCUMENT:
        app.router.routes = [route for route in app.router.routes if getattr(route, "path", "") != path]
        app.add_api_route(path, answer_document, methods=["GET"], response_model=None, include_in_schema=False)
    for path in missing(paths):
        methods = ["GET" if path in routes.BY_GET else "POST"]
        app.add_api_route(path, answer_not_available, methods=methods, response_model=None, include_in_schema=False)


def missing(paths: Collection[str]) -> list[str]:
    """The operations of OpenAI's API without a route among `paths`."""
    return sorted(set(routes.OPERATIONS) - set(paths))


async def retrieve_model(model: str, raw_request: Request) -> JSONResponse:
    """Answer with one model of /v1/models. The name of the model may have slashes."""
    for card in await model_cards(raw_request):
        if card["id"] == model:
            return JSONResponse(card)
    error = ApiError(404, f"The model '{shorten(model)}' does not exist", "model_not_found", "model")
    return error_response(error, raw_request.url.path)


async def answer_not_available(raw_request: Request) -> JSONResponse:
    """Answer with an error, because the model does not support the operation."""
    path = raw_request.url.path
    return error_response(errors.not_available(routes.OPERATIONS[path], routes.SWITCHES.get(path, "")), path)


def moderate(app: FastAPI) -> Any:
    """The endpoint of /v1/moderations for a classifier. Each label is a category, which is flagged from 0.5 on."""
    classify = next(route for route in app.routes if isinstance(route, APIRoute) and route.path == "/classify")

    async def create_moderation(raw_request: Request) -> Response:
        try:
            body = json.loads(await raw_request.body())
        except ValueError:
            body = None
        if not isinstance(body, dict) or "input" not in body:
            error = ApiError(400, "The body must be a JSON object with 'input'.", None, "input")
            return error_response(error, raw_request.url.path)
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        texts = [part.get("text") if isinstance(part, dict) else part for part in inputs]
        if not texts or not all(isinstance(text, str) for text in texts):
            error = ApiError(400, "'input' must be text or a list of texts.", None, "input")
            return error_response(error, raw_request.url.path)
        raw_request.state.parsed = True
        request_type = next(iter(_body_types(classify)))
        names = [card["id"] for card in await model_cards(raw_request)]
        model = body.get("model")
        request = request_type.model_validate({"model": model if model in names else names[0], "input": texts})
        answer: Response = await classify.endpoint(request, raw_request)
        if answer.status_code >= 400:
            return reshape(answer, raw_request)
        labels = raw_request.app.state.vllm_config.model_config.hf_config.id2label
        return JSONResponse(moderation(json.loads(bytes(answer.body)), labels))

    return create_moderation


def moderation(classified: dict[str, Any], labels: dict[int, str]) -> dict[str, Any]:
    """Convert vLLM's classification to OpenAI's moderation. Labels that mean harmless do not flag the text."""
    results = []
    for item in classified["data"]:
        scores = {labels.get(number, str(number)): float(score) for number, score in enumerate(item["probs"])}
        categories = {label: score >= 0.5 for label, score in scores.items()}
        flagged = any(exceeded for label, exceeded in categories.items() if not is_harmless(label))
        results.append({"flagged": flagged, "categories": categories, "category_scores": scores})
    return {"id": f"modr-{classified['id']}", "model": classified["model"], "results": results}


def is_harmless(label: str) -> bool:
    """Whether a label means that nothing is wrong with the text."""
    return label.lower().replace("-", "_") in {"ok", "safe", "neutral", "normal", "benign", "clean", "non_toxic"}


def _body_types(route: APIRoute) -> list[Any]:
    """The types of a route's body that have texts. ClassificationRequest is a union with a type that has messages."""
    types = [field.field_info.annotation for field in route.dependant.body_params]
    return [member for kind in types for member in _alternatives(kind) if "input" in member.model_fields]


def _alternatives(kind: Any) -> list[Any]:
    """The classes of a union, annotated or not."""
    parts = get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind)
    return [member for part in parts for member in _alternatives(part)] or [kind]


async def router_error(request: Request, error: Exception) -> JSONResponse:
    """Answer a 404 or 405 of the router. vLLM itself answers with {"detail": …}."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        return error_response(not_found(request.method, path, OWN_URLS), path)
    reply = errors.of_status(error.status_code, str(error.detail), request.method, path)
    return error_response(reply, path)
