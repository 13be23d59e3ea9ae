"""What the gateway answers by itself, of what it knows: models, health, ping, and a browser's question."""

from collections.abc import Iterable
from typing import Any

from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.endpoint import Endpoint

PREFLIGHT = (
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "GET, POST, DELETE, OPTIONS"),
    ("access-control-max-age", "600"),
)
"""Every site may ask, and the headers that it asks for are allowed: the key decides."""


def list_models(endpoints: Iterable[Endpoint], directory: Directory) -> dict[str, Any]:
    """The models of endpoints, in OpenAI's form, with the endpoint's id and its state (the reason of Ready) beside."""
    return {"object": "list", "data": [model for each in endpoints for model in _models(each, directory)]}


def find_model(name: str, endpoints: Iterable[Endpoint], directory: Directory) -> dict[str, Any] | None:
    """One of them, by its name."""
    models = (model for each in endpoints for model in _models(each, directory) if model["id"] == name)
    return next(models, None)


def health(endpoint: Endpoint | None, *, ready: bool, ping: bool) -> int:
    """The status that tells a load balancer how an endpoint is: 200, 204 for one that would have to start (which ping
    tells apart), 503 for one that cannot serve."""
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
