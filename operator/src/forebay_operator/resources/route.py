"""The HTTPRoute that brings /v2/<id>/ of the user's Gateways to an endpoint, and what became of it."""

from typing import Any

from forebay_kube.object_conditions import find_condition
from forebay_operator import labels
from forebay_operator.resources.meta import build_metadata, with_applied_digest
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, Manifest

ROUTE_CONDITION = "RouteReady"
ACCEPTED, ROUTE_WAITING, ROUTE_REFUSED = "RouteAccepted", "RouteWaiting", "RouteRefused"
"""Reasons of the condition while there is a route."""


def route_id(endpoint: Endpoint, settings: Settings) -> str:
    """The endpoint's id in URLs, as the gateway has it: its name, with the namespace before it outside of its home."""
    return endpoint.name if endpoint.namespace == settings.home_namespace else f"{endpoint.namespace}.{endpoint.name}"


def build_route(endpoint: Endpoint, settings: Settings) -> dict[str, Any] | None:
    """The HTTPRoute, named like the endpoint, or None where none is asked for. Its requests have no time limit, since
    a stream may take as long as it likes."""
    route = endpoint.route
    if not route.parent_refs:
        return None
    spec: dict[str, Any] = {
        "parentRefs": [dict(parent) for parent in route.parent_refs],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": f"/v2/{route_id(endpoint, settings)}"}}],
                "backendRefs": [{"name": endpoint.name, "port": endpoint.service.port}],
                "timeouts": {"request": "0s"},
            }
        ],
    }
    if route.hostnames:
        spec["hostnames"] = list(route.hostnames)
    metadata = build_metadata(endpoint, endpoint.name)
    return with_applied_digest(
        {"apiVersion": labels.ROUTE_API, "kind": "HTTPRoute", "metadata": metadata, "spec": spec}
    )


def route_condition(ready: bool, reason: str, message: str, generation: int) -> dict[str, object]:
    """What is said of the route in the endpoint's status."""
    return {
        "type": ROUTE_CONDITION,
        "status": "True" if ready else "False",
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
    }


def assess_route(live: Manifest, generation: int) -> dict[str, object]:
    """Whether every Gateway that the route names has taken it, in the Gateways' own words."""
    wanted = len(live["spec"].get("parentRefs") or ())
    answers = (live.get("status") or {}).get("parents") or ()
    current = live["metadata"].get("generation", 0)
    accepted = 0
    for answer in answers:
        for kind in ("Accepted", "ResolvedRefs"):
            condition = find_condition(answer, kind)
            if condition.get("status") == "False":
                gateway = answer["parentRef"]["name"]
                words = f"the Gateway {gateway} says {condition.get('reason')}: {condition.get('message', '')}"
                return route_condition(False, ROUTE_REFUSED, words, generation)
        taken = find_condition(answer, "Accepted")
        accepted += taken.get("status") == "True" and taken.get("observedGeneration", current) >= current
    if accepted < wanted:
        words = (
            f"{accepted} of {wanted} Gateways have accepted the route; check that those in spec.route.parentRefs exist"
        )
        return route_condition(False, ROUTE_WAITING, words, generation)
    return route_condition(True, ACCEPTED, "every Gateway in spec.route.parentRefs has accepted it", generation)
