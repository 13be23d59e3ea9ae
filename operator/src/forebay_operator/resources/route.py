"""Builds the HTTPRoute that leads /v2/<id>/ of the user's Gateways to an endpoint, and assesses their answers.

controller/http_routes.py calls it.
"""

from typing import Any

from forebay_kube.object_conditions import find_condition
from forebay_operator import labels
from forebay_operator.resources.meta import build_metadata, with_applied_digest
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, Manifest

ROUTE_CONDITION = "RouteReady"
ACCEPTED, ROUTE_WAITING, ROUTE_REFUSED = "RouteAccepted", "RouteWaiting", "RouteRefused"
"""Reasons of the condition while the route exists."""


def route_id(endpoint: Endpoint, settings: Settings) -> str:
    """The endpoint's id in URLs, as at the gateway: NAME in the home namespace, NAMESPACE.NAME elsewhere."""
    return endpoint.name if endpoint.namespace == settings.home_namespace else f"{endpoint.namespace}.{endpoint.name}"


def build_route(endpoint: Endpoint, settings: Settings) -> dict[str, Any] | None:
    """Build the HTTPRoute, which has the endpoint's name, or return None if the spec has none.

    Its requests have no time limit, because a stream may take any time.
    """
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
    """Build the condition for the route in the endpoint's status."""
    return {
        "type": ROUTE_CONDITION,
        "status": "True" if ready else "False",
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
    }


def assess_route(live: Manifest, generation: int) -> dict[str, object]:
    """Build the condition from the Gateways' answers: whether all of them have accepted the route."""
    wanted = len(live["spec"].get("parentRefs") or ())
    answers = (live.get("status") or {}).get("parents") or ()
    current = live["metadata"].get("generation", 0)
    accepted = 0
    for answer in answers:
        for kind in ("Accepted", "ResolvedRefs"):
            condition = find_condition(answer, kind)
            if condition.get("status") == "False":
                gateway = answer["parentRef"]["name"]
                message = f"the Gateway {gateway} says {condition.get('reason')}: {condition.get('message', '')}"
                return route_condition(False, ROUTE_REFUSED, message, generation)
        accepted_condition = find_condition(answer, "Accepted")
        accepted += (
            accepted_condition.get("status") == "True"
            and accepted_condition.get("observedGeneration", current) >= current
        )
    if accepted < wanted:
        message = (
            f"{accepted} of {wanted} Gateways have accepted the route; check that those in spec.route.parentRefs exist"
        )
        return route_condition(False, ROUTE_WAITING, message, generation)
    return route_condition(True, ACCEPTED, "every Gateway in spec.route.parentRefs has accepted it", generation)
