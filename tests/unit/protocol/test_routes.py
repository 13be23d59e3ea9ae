"""Every spelling of a URL that clients use, and its meaning. docs/api.md has the same table for people."""

import re

import pytest

from cluster.pins import ROOT
from forebay_protocol.errors import ApiDialect
from forebay_protocol.routes import OWN_URLS, Location, dialect_of, locate, not_found

CHAT, RERANK, MODELS = "/v1/chat/completions", "/v1/rerank", "/v1/models"

SPELLINGS = {
    # a base URL that ends with /v1, with /openai/v1, or with less than that
    "/v1/chat/completions": ("", CHAT),
    "/openai/v1/chat/completions": ("", CHAT),
    "/openai/chat/completions": ("", CHAT),
    "/chat/completions": ("", CHAT),
    "/v2/one/openai/v1/chat/completions": ("one", CHAT),
    "/v2/one/v1/chat/completions": ("one", CHAT),
    "/v2/one/openai/chat/completions": ("one", CHAT),
    "/v2/one/chat/completions": ("one", CHAT),
    # a client that adds /v1 to a base URL that has it
    "/v1/v1/messages": ("", "/v1/messages"),
    "/v2/one/openai/v1/v1/messages": ("one", "/v1/messages"),
    # one that adds /openai/v1 to a base URL that has it
    "/openai/openai/v1/models": ("", MODELS),
    "/v1/openai/v1/chat/completions": ("", CHAT),
    "/v2/one/openai/v1/openai/v1/chat/completions": ("one", CHAT),
    "/v2/one/openai/openai/v2/rerank": ("one", RERANK),
    # slashes that came together, and one at the end
    "//v1/models": ("", MODELS),
    "/v1//models": ("", MODELS),
    "/v1//chat//completions/": ("", CHAT),
    "/v2/one/openai//v1/models/": ("one", MODELS),
    "/v2//one/openai/v1/models": ("one", MODELS),
    "/v1/models/org/model": ("", "/v1/models/org/model"),
    "/v1/models/org%2Fmodel": ("", "/v1/models/org%2Fmodel"),
    # rerankers: Jina and LiteLLM, cohere's client of each version
    "/rerank": ("", RERANK),
    "/v1/rerank": ("", RERANK),
    "/v2/rerank": ("", RERANK),
    "/v2/rerank/": ("", RERANK),
    "/openai/v2/rerank": ("", RERANK),
    "/v1/v2/rerank": ("", RERANK),
    "/v2/one/openai/v2/rerank": ("one", RERANK),
    "/v2/one/openai/v1/v2/rerank": ("one", RERANK),
    "/v2/one/rerank": ("one", RERANK),
    "/v2/rerank/openai/v1/models": ("rerank", MODELS),
    "/v2/embed": ("", "/v2/embed"),
    "/v2/one/openai/v2/embed": ("one", "/v2/embed"),
    "/score": ("", "/v1/score"),
    # lm-evaluation-harness takes the tokenizer from the root of the base URL
    "/tokenize": ("", "/v1/tokenize"),
    "/tokenizer_info": ("", "/v1/tokenizer_info"),
    "/v2/one/openai/detokenize": ("one", "/v1/detokenize"),
    "/health": ("", "/health"),
    "//ping/": ("", "/ping"),
    "/openapi.json": ("", "/v1/openapi.json"),
}


@pytest.mark.parametrize("path", SPELLINGS)
def test_every_spelling_of_a_url_is_recognized(path: str) -> None:
    endpoint, canonical = SPELLINGS[path]
    assert locate(path) == Location(endpoint, canonical)


@pytest.mark.parametrize(
    ("path", "endpoint", "rest"),
    [
        ("/v2/one/run", "one", "run"),
        ("/v2/one//status/job-1/", "one", "status/job-1"),
        ("/v2//one/run", "one", "run"),
        ("//v2///one//status/job-1", "one", "status/job-1"),
        ("/v2/one/health", "one", "health"),
        ("/v2/team.one/openai/v10/models", "team.one", "openai/v10/models"),
        ("/v2/one/y/openai/v1/models", "one", "y/openai/v1/models"),
    ],
)
def test_other_paths_belong_to_the_job_api(path: str, endpoint: str, rest: str) -> None:
    assert locate(path) == Location(endpoint, rest=rest)


@pytest.mark.parametrize(
    "path",
    [
        "/", "", "/v1", "/v1/", "/v2", "/v2/", "/v2/one", "/v2/one/", "/v2//openai/v1/models",
        "/v2//v1/models", "/v2//run", "/metrics", "/docs",
        "/sleep", "/v1/load_lora_adapter", "/v1/../metrics", "/v2/x/openai/v1/../../metrics", "/v1/%2e%2e/metrics",
        "/V1/models", "/v10/models", "/x/v1/models", "/v1/embed", "/v1/files", "/tokenize/x", "/v1/chat", "/v1/audio",
        "/v1/chat/completions/x", "/v1/completions/x", "/v1/responses/a/b", "/v1/responses/a/cancel/b", "/rerank/x",
        "/v1/openapi.json/x", "/v1/messages/batches", "/v1/responses/responses", "/v1/responses/models",
    ],
)  # fmt: skip
def test_unknown_paths_are_not_served(path: str) -> None:
    location = locate(path)
    assert location is None or not location.path


def test_the_gateway_also_serves_files() -> None:
    assert locate("/files/", frozenset({"files"})) == Location("", "/v1/files")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/nothing", ": the base URL is right, and there is no /nothing below it."),
        ("//v1//tokenize/x", ": the base URL is right, and there is no /tokenize/x below it. Did you mean /tokenize?"),
        ("/v1/chat/completion", "no /chat/completion below it. Did you mean /chat/completions?"),
        ("/v2/one/openai/v1/chat", "no /chat below it."),
        ("/v1", ". The base URL ends with /v1 or /v2/ID/openai/v1."),
        ("/v10/models", ". The base URL ends with"),
        ("/v2/one/openai/v10/models", ". The base URL ends with"),
        ("/metrics", ". The base URL ends with"),
    ],
)
def test_an_unknown_path_is_distinguished_from_a_wrong_base_url(path: str, said: str) -> None:
    error = not_found("POST", path, OWN_URLS)
    assert (error.status, error.code) == (404, "unknown_url")
    assert error.message.startswith(f"Invalid URL (POST {path})")
    assert said in error.message
    assert error.message.endswith((f"{said}", "/v2/ID/openai/v1."))


@pytest.mark.parametrize(
    ("path", "api"),
    [
        (CHAT, ApiDialect.OPENAI),
        ("/v1/responses/resp_1", ApiDialect.RESPONSES),
        ("/v1/messages", ApiDialect.ANTHROPIC),
        ("/v2/messages/openai/v1/models", ApiDialect.OPENAI),
        ("/v1/messagesx", ApiDialect.OPENAI),
        ("/v2/one/run", ApiDialect.OPENAI),
        ("/v2/one", ApiDialect.OPENAI),
        ("/v2", ApiDialect.OPENAI),
        ("/", ApiDialect.OPENAI),
        ("", ApiDialect.OPENAI),
    ],
)
def test_the_error_format_follows_the_path(path: str, api: ApiDialect) -> None:
    assert dialect_of(path) is api


@pytest.mark.parametrize(
    "base", ["", "/v1", "/v1//v1", "/openai/v1", "/v2/one/openai/v1", "/v2/one/openai", "//v2/one/v1", "/v2//one/v1"]
)
@pytest.mark.parametrize(
    ("below", "api"),
    [
        ("/messages/batches", ApiDialect.ANTHROPIC),
        ("/messages/foo/", ApiDialect.ANTHROPIC),
        ("/responses/a/b", ApiDialect.RESPONSES),
        ("/chat/messages", ApiDialect.OPENAI),
    ],
)
def test_the_error_format_follows_an_unknown_path(base: str, below: str, api: ApiDialect) -> None:
    assert dialect_of(base + below) is api


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/chat/completions/chat/completions", "/chat/completions"),
        ("/v1/chat/completions/v1/chat/completions/", "/chat/completions"),
        ("/v1/chat/completions/batch/models", "/chat/completions/batch"),
        ("/v2/one/openai/v1/completions/models", "/completions"),
        ("/v1/messages/v1/messages", "/messages"),
        ("/v1/responses/responses", "/responses"),
        ("/v1/rerank/v2/rerank", "/rerank"),
        ("/v1/completions/tokenize", "/completions"),
    ],
)
def test_the_url_of_a_route_is_not_a_base_url(path: str, route: str) -> None:
    message = not_found("POST", path, OWN_URLS).message
    assert message == f"Invalid URL (POST {path}). The base URL ends with /v1 or /v2/ID/openai/v1, without {route}."


def test_a_long_path_is_repeated_only_in_part() -> None:
    for path in (f"/v1/{'x' * 60_000}", f"/{'x' * 60_000}"):
        assert len(not_found("POST", path, OWN_URLS).message) < 600


def test_the_documented_table_matches_the_routes() -> None:
    rows = re.findall(r"^\| `(/\S+)` \| `(/\S+)` \|", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert len(rows) > 12
    for written, canonical in rows:
        location = locate(written)
        assert location is not None
        assert location.path == canonical, written


def test_a_path_of_many_parts_is_processed_in_linear_time() -> None:
    assert locate("/v1" * 300_000 + "/models") == Location("", "/v1/models")
