"""The OpenAPI document of the served API: vLLM's request bodies, Forebay's errors, both base URLs, jobs.

GET /openapi.json returns it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import JSONResponse

from forebay_protocol.routes import PROBES
from forebay_server.serving import routes
from forebay_server.serving.route_overrides import model_cards

Document = dict[str, Any]

ABOUT = (
    "Every path under /v1 is also there under /v2/{endpoint}/openai/v1, whatever the endpoint's name, "
    "as clients of RunPod's serverless workers call it."
)

ROOT = [{"url": "/"}]
SERVERS = [*ROOT, {"url": "/v2/{endpoint}/openai", "variables": {"endpoint": {"default": "endpoint"}}}]

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}

SWITCHED_OFF = "disabled_scale_out"
"""The name of those routes of vLLM whose only answer is that a flag enables them."""

JOB = {
    "type": "object",
    "required": ["input"],
    "properties": {
        "input": {"type": "object", "description": "prompt or messages, sampling_params, stream; or openai_route …"}
    },
}


def served_document(app: FastAPI) -> Callable[[Request], Coroutine[Any, Any, JSONResponse]]:
    """The route handler that answers with the document. The first request creates it in a thread."""
    cached: list[Document] = []

    async def openapi_document(raw_request: Request) -> JSONResponse:
        if not cached:
            cached.append(await asyncio.to_thread(make_document, app.routes, app.version))
        cached[0]["components"]["schemas"]["ServedModel"]["enum"] = [
            card["id"] for card in await model_cards(raw_request)
        ]
        return JSONResponse(cached[0])

    return openapi_document


def make_document(served: Iterable[Any], version: str) -> Document:
    """The document for those routes of `served` that clients can reach."""
    routed = [route for route in served if isinstance(route, APIRoute) and route.name != SWITCHED_OFF]
    ours = [route for route in routed if is_public(route.path)]
    document: Document = get_openapi(title="Forebay", version=version, description=ABOUT, routes=ours, servers=SERVERS)
    document["paths"] = {public(path): item for path, item in document["paths"].items()}
    document["paths"]["/v2/{endpoint}/runsync"] = runsync()
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in schemas.items():
        if name.endswith("Request") and "model" in schema.get("properties", {}):
            schema["properties"]["model"] = {"$ref": "#/components/schemas/ServedModel"}
    schemas |= {"Error": ERROR, "ServedModel": {"type": "string"}}
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    document["security"] = [{"key": []}, {"x-api-key": []}]
    for item in document["paths"].values():
        for operation in item.values():
            if isinstance(operation, dict):
                operation["responses"] = {
                    "200": operation.get("responses", {}).get("200", {"description": "The answer"}),
                    "default": {
                        "description": "An error",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                    },
                }
    for path in PROBES & document["paths"].keys():
        document["paths"][path]["servers"] = ROOT
        for operation in ("get", "post"):
            document["paths"][path].get(operation, {})["security"] = []
    return document


def is_public(path: str) -> bool:
    """Whether clients can reach a path of vLLM's app."""
    return routes.is_reached(path)


def public(path: str) -> str:
    """The clients' path for a path that vLLM knows."""
    return f"/v1{path}" if path.removeprefix("/") in routes.ROOT_ROUTES else path


def runsync() -> Document:
    """The path item of runsync."""
    operation = {
        "operationId": "runsync",
        "summary": "A job in the form of RunPod's serverless API, answered with its output",
        "requestBody": {"required": True, "content": {"application/json": {"schema": JOB}}},
    }
    parameter = {"name": "endpoint", "in": "path", "required": True, "schema": {"type": "string"}}
    return {"servers": ROOT, "parameters": [parameter], "post": operation}
