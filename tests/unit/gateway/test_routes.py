"""Which paths are answered, and as what."""

import pytest

from forebay_gateway.http.messages import Head
from forebay_gateway.http.routes import Path, RouteKind, read_path
from forebay_gateway.proxy.admission import api_of
from forebay_protocol.errors import ApiDialect
from forebay_protocol.routes import PROBES
from forebay_server.serving import routes

OWN = {
    ("POST", "/v1/chat/completions"): Path("", "/v1/chat/completions", b"/v1/chat/completions", RouteKind.ENGINE),
    ("POST", "/v2/any/openai/v1/completions?x=1"): Path(
        "any", "/v1/completions", b"/v1/completions?x=1", RouteKind.ENGINE
    ),
    ("POST", "//v2/any//runsync/"): Path("any", "/runsync", b"/v2/any/runsync", RouteKind.ENGINE),
    ("POST", "/openai/v1/completions"): Path("", "/v1/completions", b"/v1/completions", RouteKind.ENGINE),
    ("POST", "/v2/rerank"): Path("", "/v1/rerank", b"/v1/rerank", RouteKind.ENGINE),
    ("GET", "/v1/models/org%2Fmodel"): Path("", "/v1/models/org%2Fmodel", b"/v1/models/org%2Fmodel", RouteKind.MODELS),
    ("GET", "/v1/files"): None,
    ("POST", "/v2/any/runsync"): Path("any", "/runsync", b"/v2/any/runsync", RouteKind.ENGINE),
    ("GET", "/v1/models"): Path("", "/v1/models", b"/v1/models", RouteKind.MODELS),
    ("HEAD", "/v1/models/org/model"): Path("", "/v1/models/org/model", b"/v1/models/org/model", RouteKind.MODELS),
    ("GET", "/v1/realtime?model=m"): Path("", "/v1/realtime", b"/v1/realtime?model=m", RouteKind.ENGINE),
    ("GET", "/v1/responses/resp_1"): Path("", "/v1/responses/resp_1", b"/v1/responses/resp_1", RouteKind.PASSIVE),
    ("POST", "/v1/responses/resp_1/cancel"): Path(
        "", "/v1/responses/resp_1/cancel", b"/v1/responses/resp_1/cancel", RouteKind.PASSIVE
    ),
    ("POST", "/v1/responses/compact"): Path("", "/v1/responses/compact", b"/v1/responses/compact", RouteKind.ENGINE),
    ("POST", "/v1/models"): Path("", "/v1/models", b"/v1/models", RouteKind.PASSIVE),
    ("POST", "/v1/realtime"): Path("", "/v1/realtime", b"/v1/realtime", RouteKind.PASSIVE),
    ("POST", "/v2/embed"): Path("", "/v2/embed", b"/v2/embed", RouteKind.ENGINE),
    ("POST", "/tokenize"): Path("", "/v1/tokenize", b"/v1/tokenize", RouteKind.ENGINE),
    ("POST", "/tokenize/x"): None,
    ("GET", "/v1/openapi.json"): Path("", "/v1/openapi.json", b"/v1/openapi.json", RouteKind.PASSIVE),
    ("GET", "/health"): Path("", "/health", b"/health", RouteKind.PROBE),
    ("POST", "/v2/any/run"): None,
    ("POST", "/v1/load_lora_adapter"): None,
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
    ("POST", "/v2/team.one/openai/v1/messages"): Path("team.one", "/v1/messages", b"/v1/messages", RouteKind.ENGINE),
    ("POST", "/v2/one/runsync?wait=1000"): Path("one", "/runsync", b"/v2/one/runsync?wait=1000", RouteKind.JOBS),
    ("POST", "/v2/team.one/run"): Path("team.one", "/run", b"/v2/team.one/run", RouteKind.JOBS),
    ("GET", "/v2/one/status/id-1"): Path("one", "/status/id-1", b"/v2/one/status/id-1", RouteKind.JOBS),
    ("GET", "/v2/one/health"): Path("one", "/health", b"/v2/one/health", RouteKind.JOBS),
    ("GET", "/v2/one/status"): None,
    ("GET", "/openai/v1/models"): Path("", "/v1/models", b"/v1/models", RouteKind.MODELS),
    ("GET", "/ping"): Path("", "/ping", b"/ping", RouteKind.PROBE),
    ("POST", "/v1/chat/completions"): Path("", "/v1/chat/completions", b"/v1/chat/completions", RouteKind.ENGINE),
    ("POST", "/v2/one/v1//completions/"): Path("one", "/v1/completions", b"/v1/completions", RouteKind.ENGINE),
    ("POST", "/v2/rerank"): Path("", "/v1/rerank", b"/v1/rerank", RouteKind.ENGINE),
    ("GET", "/v2/one//status/id-1/"): Path("one", "/status/id-1", b"/v2/one/status/id-1", RouteKind.JOBS),
    ("GET", "/v2/one/openai/v1/files/"): Path("one", "/v1/files", b"/v1/files", RouteKind.BATCHES),
    ("GET", "/openapi.json"): None,
    ("POST", "/openai/sleep"): None,
}


@pytest.mark.parametrize(("method", "target"), OWN)
def test_paths_on_the_port_of_one_endpoint(method: str, target: str) -> None:
    assert read_path(method, target.encode(), shared=False) == OWN[method, target]


@pytest.mark.parametrize(("method", "target"), SHARED)
def test_paths_on_the_shared_port(method: str, target: str) -> None:
    assert read_path(method, target.encode(), shared=True) == SHARED[method, target]


@pytest.mark.parametrize("path", [*routes.OPERATIONS, *routes.DOCUMENT, *sorted(PROBES), "/v2/x/runsync", "/v1/models"])
def test_every_path_of_the_server_has_the_same_meaning_on_the_gateway(path: str) -> None:
    found = read_path("POST", path.encode(), shared=False)
    assert found
    assert routes.read_path(found.target.decode()) == routes.read_path(path)
    assert routes.read_path(path).served


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/chat/completions", ApiDialect.OPENAI),
        ("/v1/responses", ApiDialect.RESPONSES),
        ("/v1/messages/count_tokens", ApiDialect.ANTHROPIC),
    ],
)
def test_the_error_format_follows_the_path(path: str, api: ApiDialect) -> None:
    found = read_path("POST", path.encode(), shared=False)
    assert found
    assert found.api is api


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("target", [b"/v1/messages/batches?x=1", b"/v2/one/openai/v1/messages/foo"])
def test_the_error_format_of_an_unknown_path_follows_its_beginning(target: bytes, shared: bool) -> None:
    assert api_of(Head("POST", target, "1.1", []), shared=shared) is ApiDialect.ANTHROPIC
