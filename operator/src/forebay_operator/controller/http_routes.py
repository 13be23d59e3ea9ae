"""Makes, mends and deletes an endpoint's HTTPRoute, and says what its Gateways make of it."""

from forebay_kube.api_client import ApiServerError
from forebay_operator import labels
from forebay_operator.apiserver.children import ReconcileError, apply_child, remove
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.resources import build_route
from forebay_operator.resources.route import ACCEPTED, ROUTE_REFUSED, ROUTE_WAITING, assess_route, route_condition
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, Manifest


class HTTPRoutes:
    """For all endpoints."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings

    async def apply_route(
        self, endpoint: Endpoint, previous: Manifest | None, force_refresh: bool
    ) -> tuple[Manifest | None, bool]:
        """Make, mend or delete the route. Returns its condition (`previous`: the one of before), if it is to have one,
        and whether that may stay. Nothing that happens here keeps the endpoint itself from working.

        Routes are not watched, since their API may be missing: one is looked at while its Gateways have not taken it,
        after a change of the endpoint, and in the rounds.
        """
        try:
            return await self._apply_route(endpoint, previous, force_refresh)
        except ApiServerError as error:
            words = f"the HTTPRoute could not be read or changed: {error.message}"
            current = previous and previous.get("observedGeneration") == endpoint.generation
            return previous if current else route_condition(False, "RouteFailed", words, endpoint.generation), False

    async def _apply_route(
        self, endpoint: Endpoint, previous: Manifest | None, force_refresh: bool
    ) -> tuple[Manifest | None, bool]:
        desired = build_route(endpoint, self._settings)
        if desired is None:
            if previous is not None or force_refresh:
                await self._remove(endpoint)
            return None, True
        taken = previous is not None and previous["status"] == "True"
        if previous and taken and not force_refresh and previous.get("observedGeneration") == endpoint.generation:
            return previous, True
        if not await self._cluster.serves_routes():
            words = f"the Gateway API ({labels.ROUTE_API}) is not installed here. Install it, or remove spec.route"
            return route_condition(False, "RouteUnsupported", words, endpoint.generation), True
        exists = previous is not None and previous["reason"] in (ACCEPTED, ROUTE_WAITING, ROUTE_REFUSED)
        try:
            route = await apply_child(self._cluster, endpoint, desired, None, exists)
        except ReconcileError as error:
            found = route_condition(False, error.diagnosis.reason, error.diagnosis.text, endpoint.generation)
            return found, not error.retry
        found = assess_route(route, endpoint.generation)
        return found, found["status"] == "True"

    async def _remove(self, endpoint: Endpoint) -> None:
        if await self._cluster.serves_routes():
            await remove(self._cluster, endpoint, "HTTPRoute", endpoint.name)
