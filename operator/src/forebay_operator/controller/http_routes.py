"""Applies and deletes the HTTPRoute of an endpoint, and turns the answers of its Gateways into a condition.

The reconciler calls it.
"""

from forebay_kube.api_client import ApiServerError
from forebay_operator import labels
from forebay_operator.apiserver.children import ReconcileError, apply_child, remove
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.resources import build_route
from forebay_operator.resources.route import ACCEPTED, ROUTE_REFUSED, ROUTE_WAITING, assess_route, route_condition
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, Manifest


class HTTPRoutes:
    """The HTTPRoutes of all endpoints."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings

    async def apply_route(
        self, endpoint: Endpoint, previous: Manifest | None, force_refresh: bool
    ) -> tuple[Manifest | None, bool]:
        """Apply or delete the route. Returns its condition or None, and whether the condition is final.

        A failure here never keeps the endpoint itself from working. Routes are not watched, because their API may be
        missing. A route is read while its Gateways have not accepted it, after a change of the endpoint, and at a
        resync.

        Args:
            previous: the condition until now.
        """
        try:
            return await self._apply_route(endpoint, previous, force_refresh)
        except ApiServerError as error:
            message = f"the HTTPRoute could not be read or changed: {error.message}"
            current = previous and previous.get("observedGeneration") == endpoint.generation
            return previous if current else route_condition(False, "RouteFailed", message, endpoint.generation), False

    async def _apply_route(
        self, endpoint: Endpoint, previous: Manifest | None, force_refresh: bool
    ) -> tuple[Manifest | None, bool]:
        desired = build_route(endpoint, self._settings)
        if desired is None:
            if previous is not None or force_refresh:
                await self._remove(endpoint)
            return None, True
        accepted = previous is not None and previous["status"] == "True"
        if previous and accepted and not force_refresh and previous.get("observedGeneration") == endpoint.generation:
            return previous, True
        if not await self._cluster.serves_routes():
            message = f"the Gateway API ({labels.ROUTE_API}) is not installed here. Install it, or remove spec.route"
            return route_condition(False, "RouteUnsupported", message, endpoint.generation), True
        exists = previous is not None and previous["reason"] in (ACCEPTED, ROUTE_WAITING, ROUTE_REFUSED)
        try:
            route = await apply_child(self._cluster, endpoint, desired, None, exists)
        except ReconcileError as error:
            condition = route_condition(False, error.diagnosis.reason, error.diagnosis.text, endpoint.generation)
            return condition, not error.retry
        condition = assess_route(route, endpoint.generation)
        return condition, condition["status"] == "True"

    async def _remove(self, endpoint: Endpoint) -> None:
        if await self._cluster.serves_routes():
            await remove(self._cluster, endpoint, "HTTPRoute", endpoint.name)
