"""Which paths are answered, and as what."""

import pytest

from forebay_gateway.http.routes import Path, RouteKind, read_path
from forebay_protocol.errors import ApiDialect
from forebay_server.serving import routes

OWN = {
    ("POST", "/v1/chat/completions"): Path("", "/v1/chat/completions", b"/v1/chat/completions", RouteKind.ENGINE),
    ("POST", "/v2/any/openai/v1/completions"): Path(
        "any", "/v1/completions", b"/v2/any/openai/v1/completions", RouteKind.ENGINE
    ),
    ("POST", "/v2/any/runsync"): Path("any", "/runsync", b"/v2/any/runsync", RouteKind.ENGINE),
    ("GET", "/v1/models"): Path("", "/v1/models", b"/v1/models", RouteKind.MODELS),
    ("HEAD", "/v1/models/org/model"): Path("", "/v1/models/org/model", b"/v1/models/org/model", RouteKind.MODELS),
    ("GET", "/v1/realtime?model=m"): Path("", "/v1/realtime", b"/v1/realtime?model=m", RouteKind.ENGINE),
    ("GET", "/v1/responses/resp_1"): Path("", "/v1/responses/resp_1", b"/v1/responses/resp_1", RouteKind.PASSIVE),
    ("GET", "/v1/openapi.json"): Path("", "/v1/openapi.json", b"/v1/openapi.json", RouteKind.PASSIVE),
    ("GET", "/health"): Path("", "/health", b"/health", RouteKind.PROBE),
    ("POST", "/v2/any/run"): None,
    ("POST", "/v1/load_lora_adapter"): None,
    ("POST", "/openai/v1/completions"): None,
    ("POST", "/sleep"): None,
    ("GET", "/metrics"): None,
    ("GET", "/v1"): None,
    ("GET", "/v1/"): None,
    ("GET", "/v2/any/openai/v1/"): None,
    ("GET", "/"): None,
}

SHARED = {
    ("POST", "/openai/v1/chat/completions?x=1"): Path(
        "", "/v1/chat/completions", b"/v1/chat/completions?x=1", RouteKind.ENGINE
    ),
    ("POST", "/v2/team.one/openai/v1/messages"): Path(
        "team.one", "/v1/messages", b"/v2/team.one/openai/v1/messages", RouteKind.ENGINE
    ),
    ("POST", "/v2/one/runsync?wait=1000"): Path("one", "/runsync", b"/v2/one/runsync?wait=1000", RouteKind.JOBS),
    ("POST", "/v2/team.one/run"): Path("team.one", "/run", b"/v2/team.one/run", RouteKind.JOBS),
    ("GET", "/v2/one/status/id-1"): Path("one", "/status/id-1", b"/v2/one/status/id-1", RouteKind.JOBS),
    ("GET", "/v2/one/health"): Path("one", "/health", b"/v2/one/health", RouteKind.JOBS),
    ("GET", "/v2/one/status"): None,
    ("GET", "/openai/v1/models"): Path("", "/v1/models", b"/v1/models", RouteKind.MODELS),
    ("GET", "/ping"): Path("", "/ping", b"/ping", RouteKind.PROBE),
    ("POST", "/v1/chat/completions"): None,
    ("GET", "/openapi.json"): None,
    ("POST", "/openai/sleep"): None,
}


@pytest.mark.parametrize(("method", "target"), OWN)
def test_on_the_port_of_one_endpoint(method: str, target: str) -> None:
    assert read_path(method, target.encode(), shared=False) == OWN[method, target]


@pytest.mark.parametrize(("method", "target"), SHARED)
def test_on_the_shared_port(method: str, target: str) -> None:
    assert read_path(method, target.encode(), shared=True) == SHARED[method, target]


def test_every_path_of_the_server_is_known() -> None:
    for path in (*routes.OPERATIONS, *routes.DOCUMENT, *routes.OPEN, "/v2/x/runsync", "/v1/models"):
        public = path if path.startswith(("/v1/", "/v2/")) or not routes.is_served(f"/v1{path}") else f"/v1{path}"
        assert read_path("POST", public.encode(), shared=False), path


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/chat/completions", ApiDialect.OPENAI),
        ("/v1/responses", ApiDialect.RESPONSES),
        ("/v1/messages/count_tokens", ApiDialect.ANTHROPIC),
    ],
)
def test_the_shape_of_errors_follows_the_path(path: str, api: ApiDialect) -> None:
    found = read_path("POST", path.encode(), shared=False)
    assert found
    assert found.api is api
