"""The paths in the OpenAPI document; schemathesis in tests/conformance checks that it is complete."""

import pytest

from forebay_server.serving import routes


@pytest.mark.parametrize(
    "path", ["/openapi.json", "/v1/openapi.json", "/v2/any/openai/v1/openapi.json", "/v2/any/runsync", "/v1/tokenize"]
)
def test_the_openapi_document_and_its_paths_are_served(path: str) -> None:
    assert routes.read_path(path).served


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/v2/openapi.json", "/x/openapi.json"])
def test_other_paths_of_documentation_are_not_served(path: str) -> None:
    assert not routes.read_path(path).served


@pytest.mark.parametrize(
    ("path", "named"),
    [("/v1/rerank", True), ("/rerank", False), ("/v2/rerank", False), ("/tokenize", True), ("/metrics", False)],
)
def test_a_route_has_one_spelling_in_the_document(path: str, named: bool) -> None:
    assert routes.is_reached(path) is named
