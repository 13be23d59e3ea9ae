"""Answers that the gateway gives without a pod: models, health, ping, and CORS preflights. The handler calls it."""

from collections.abc import Iterable
from typing import Any

from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.endpoint import Endpoint

PREFLIGHT = (
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "GET, POST, DELETE, OPTIONS"),
    ("access-control-max-age", "600"),
)
"""Headers for a CORS preflight. Every site and every header is allowed, because the key protects the API."""


def list_models(endpoints: Iterable[Endpoint], directory: Directory) -> dict[str, Any]:
    """The models of endpoints in OpenAI's form, with the endpoint's ID and its state (the reason of Ready)."""
    return {"object": "list", "data": [model for each in endpoints for model in _models(each, directory)]}


def find_model(name: str, endpoints: Iterable[Endpoint], directory: Directory) -> dict[str, Any] | None:
    """One model by its name, in the same form; None if no endpoint serves it."""
    models = (model for each in endpoints for model in _models(each, directory) if model["id"] == name)
    return next(models, None)


def health(endpoint: Endpoint | None, *, ready: bool, ping: bool) -> int:
    """The HTTP status of a health check: 200 for a ready endpoint, 503 for one that cannot serve.

    For an endpoint that would have to start, /ping gets 204, and other checks get 200.
    """
    if ready:
        return 200
    if endpoint is None or endpoint.off or endpoint.failed:
        return 503
    return 204 if ping else 200


def _models(endpoint: Endpoint, directory: Directory) -> list[dict[str, Any]]:
    more = {"endpoint": directory.id_of(endpoint.key), "state": endpoint.reason or "Pending"}
    return [
        {"id": name, "object": "model", "created": endpoint.created, "owned_by": "vllm", **more}
        for name in endpoint.models
    ]
