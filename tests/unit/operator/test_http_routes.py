"""The URLs of a route are read with it, and kept where it is not read."""

from typing import Any

import pytest

from forebay_kube.api_client import ApiServerError
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.controller.http_routes import HTTPRoutes
from forebay_operator.resources.route import build_route
from forebay_operator.spec import parse_endpoint
from tests.unit.operator.builders import SETTINGS, endpoint_manifest
from tests.unit.operator.fake_api_server import FakeApiServer

ENDPOINT = parse_endpoint(
    endpoint_manifest(
        route={
            "parentRefs": [{"name": "public", "namespace": "team"}, {"kind": "Service", "name": "mesh"}],
            "hostnames": ["llm.example.com"],
        }
    )
)

LISTENERS = [{"name": "web", "port": 80, "protocol": "HTTP"}]

ACCEPTED = {"status": "True", "reason": "Accepted", "message": ""}


class GatewayApi(FakeApiServer):
    """An API server with a Gateway that has accepted the route. Reads of the Gateway fail with `status`, if set."""

    def __init__(self, status: int = 0) -> None:
        super().__init__({})
        self.status = status
        self.reads: list[str] = []
        answers = [{"parentRef": {"name": name}, "conditions": [{"type": "Accepted", **ACCEPTED}]} for name in "ab"]
        self.put("httproutes", {**(build_route(ENDPOINT, SETTINGS) or {}), "status": {"parents": answers}})

    async def request(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        if path.endswith("/gateways/public"):
            self.reads.append(path)
            if self.status:
                raise ApiServerError(self.status, "Reason", "no")
            return {"spec": {"listeners": LISTENERS}}
        return await super().request(method, path, body, **options)


async def test_the_urls_come_from_the_listeners_of_the_gateways() -> None:
    api = GatewayApi()
    state = await HTTPRoutes(Cluster(api), SETTINGS).apply_route(ENDPOINT, None, force_refresh=True)
    assert (state.is_final, state.urls) == (True, ["http://llm.example.com"])
    assert len(api.reads) == 1, "a parent that is no Gateway is not read"


@pytest.mark.parametrize("status", [403, 404])
async def test_a_gateway_that_cannot_be_read_leaves_the_route_accepted(status: int) -> None:
    state = await HTTPRoutes(Cluster(GatewayApi(status)), SETTINGS).apply_route(ENDPOINT, None, force_refresh=True)
    assert (state.condition or {})["reason"] == "RouteAccepted"
    assert (state.is_final, state.urls) == (True, [])


async def test_an_accepted_route_keeps_its_urls_without_a_read() -> None:
    api = GatewayApi()
    routes = HTTPRoutes(Cluster(api), SETTINGS)
    accepted = (await routes.apply_route(ENDPOINT, None, force_refresh=True)).condition
    api.reads.clear()
    state = await routes.apply_route(ENDPOINT, accepted, force_refresh=False)
    assert (state.condition, state.is_final, state.urls, api.reads) == (accepted, True, None, [])
    api.status = 500
    state = await routes.apply_route(ENDPOINT, accepted, force_refresh=True)
    assert (state.condition, state.is_final, state.urls) == (accepted, False, None)
