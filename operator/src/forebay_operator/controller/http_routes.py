"""Applies and deletes the HTTPRoute of an endpoint, and turns the answers of its Gateways into a condition and URLs.

The reconciler calls it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from forebay_kube.api_client import ApiServerError
from forebay_operator import labels
from forebay_operator.apiserver.children import ReconcileError, apply_child, remove
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.resources import build_route
from forebay_operator.resources.route import ACCEPTED, ROUTE_REFUSED, ROUTE_WAITING, assess_route, route_condition
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, Manifest
from forebay_operator.status.route_urls import find_route_urls


@dataclass(frozen=True)
class RouteState:
    """The state of an endpoint's route.

    Attributes:
        condition: the condition for the status, or None without a route.
        is_final: False if the route must be read again soon.
        urls: the URLs of the Gateways, without a path. None if the Gateways were not read: the URLs in the status then
            stay.
    """

    condition: Manifest | None
    is_final: bool
    urls: Sequence[str] | None = ()


class HTTPRoutes:
    """The HTTPRoutes of all endpoints."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings

    async def apply_route(self, endpoint: Endpoint, previous: Manifest | None, force_refresh: bool) -> RouteState:
        """Apply or delete the route.

        The endpoint itself works even if this fails. Routes are not watched, because their API may be
        missing. A route is read while its Gateways have not accepted it, after a change of the endpoint, and at a
        resync.

        Args:
            previous: the condition until now.
        """
        try:
            return await self._apply_route(endpoint, previous, force_refresh)
        except ApiServerError as error:
            message = f"the HTTPRoute could not be read or changed: {error.message}"
            if previous and previous.get("observedGeneration") == endpoint.generation:
                return RouteState(previous, False, None)
            return RouteState(route_condition(False, "RouteFailed", message, endpoint.generation), False)

    async def _apply_route(self, endpoint: Endpoint, previous: Manifest | None, force_refresh: bool) -> RouteState:
        desired = build_route(endpoint, self._settings)
        if desired is None:
            if previous is not None or force_refresh:
                await self._remove(endpoint)
            return RouteState(None, True)
        accepted = previous is not None and previous["status"] == "True"
        if previous and accepted and not force_refresh and previous.get("observedGeneration") == endpoint.generation:
            return RouteState(previous, True, None)
        if not await self._cluster.serves_routes():
            message = f"the Gateway API ({labels.ROUTE_API}) is not installed here. Install it, or remove spec.route"
            return RouteState(route_condition(False, "RouteUnsupported", message, endpoint.generation), True)
        exists = previous is not None and previous["reason"] in (ACCEPTED, ROUTE_WAITING, ROUTE_REFUSED)
        try:
            route = await apply_child(self._cluster, endpoint, desired, None, exists)
        except ReconcileError as error:
            condition = route_condition(False, error.diagnosis.reason, error.diagnosis.text, endpoint.generation)
            return RouteState(condition, not error.retry)
        condition = assess_route(route, endpoint.generation)
        if condition["status"] != "True":
            return RouteState(condition, False)
        return RouteState(condition, True, find_route_urls(endpoint.route, await self._read_gateways(endpoint)))

    async def _read_gateways(self, endpoint: Endpoint) -> list[tuple[Manifest, Manifest]]:
        """Read the Gateways that the parentRefs name. Returns pairs of a parentRef and its Gateway.

        Gateways that do not exist, or that the operator has no right to read (403), are omitted.

        Raises:
            ApiServerError: another request failed.
        """
        found = []
        for parent in endpoint.route.parent_refs:
            if parent.get("kind", "Gateway") != "Gateway":
                continue
            try:
                gateway = await self._cluster.get(
                    "Gateway", parent.get("namespace") or endpoint.namespace, parent["name"]
                )
            except ApiServerError as error:
                if error.status != 403:
                    raise
                gateway = None
            if gateway:
                found.append((parent, gateway))
        return found

    async def _remove(self, endpoint: Endpoint) -> None:
        if await self._cluster.serves_routes():
            await remove(self._cluster, endpoint, "HTTPRoute", endpoint.name)
