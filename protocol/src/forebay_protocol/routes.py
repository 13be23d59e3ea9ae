"""Finds the route of a client's URL. Pod and gateway share the table of routes.

tests/vllm/test_routes.py compares it with vLLM's own app. docs/api.md has the table of spellings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from urllib.parse import unquote

from forebay_protocol.errors import ApiDialect, ApiError, shorten
from forebay_protocol.spelling import suggest

PROBES = frozenset({"/health", "/ping"})
"""Paths that require no key. They only say that the server is up."""

ROUTES = frozenset(
    {
        "audio/speech",
        "audio/transcriptions",
        "audio/translations",
        "chat/completions",
        "chat/completions/batch",
        "chat/completions/derender",
        "chat/completions/render",
        "classify",
        "completions",
        "completions/derender",
        "completions/render",
        "detokenize",
        "embeddings",
        "messages",
        "messages/count_tokens",
        "messages/render",
        "models",
        "moderations",
        "openapi.json",
        "pooling",
        "realtime",
        "rerank",
        "responses",
        "responses/compact",
        "responses/render",
        "score",
        "tokenize",
        "tokenizer_info",
    }
)
"""The paths after /v1/ that pods have. Three more have a variable part: models/MODEL (the name may have slashes),
responses/ID and responses/ID/cancel. Routes that change vLLM's state (load_lora_adapter, …) are not included."""

MAX_PARTS = max(route.count("/") for route in ROUTES) + 1
"""The number of parts of the longest route."""

COHERE = frozenset({"embed", "rerank"})
"""Routes that Cohere's clients call under /v2/. vLLM answers /v2/rerank like /v1/rerank, and has a route /v2/embed."""

OWN_URLS = ("/v1", "/v2/ID/openai/v1")
"""The endings of the base URLs of one endpoint. ID stands for any ID."""

SHARED_URLS = ("/v2/ID/openai/v1", "/openai/v1")
"""The endings of the gateway's base URLs: one for the endpoint with an ID, one for the endpoint of the model."""


@dataclass(frozen=True)
class Location:
    """The endpoint and the route that a path names.

    Attributes:
        endpoint: the ID in /v2/ID/…; "" if the path has no ID.
        path: the canonical path of a route of the API (/v1/…) or of a probe; "" for other paths.
        rest: the part after /v2/ID/ that is not a route of the API, such as run or status/JOB.
    """

    endpoint: str
    path: str = ""
    rest: str = ""


def locate(path: str, extra: frozenset[str] = frozenset()) -> Location | None:
    """Find what a path names, in any of the clients' spellings. Returns None if nothing has this path.

    Base URLs are the root, /v1, /openai and /openai/v1, and each of them under /v2/ID. So each of them works for a
    client, whether or not the client adds /v1 or /openai/v1. Slashes may be doubled, and may be at the end.

    Args:
        path: the path, percent-encoded or not.
        extra: further first parts after /v1/. All paths below them are routes.
    """
    if not {".", ".."}.isdisjoint(unquote(path).split("/")):
        return None
    raw = path.lstrip("/").split("/")
    if (probe := f"/{'/'.join(_without_empty(raw))}") in PROBES:
        return Location("", probe)
    endpoint = ""
    if _names_endpoint(raw):
        endpoint, raw = _split_endpoint(raw)
        if not endpoint:
            return None
    after = _without_empty(raw)
    parts = _without_version(after)
    if _is_cohere_path(parts):
        return Location(endpoint, "/v1/rerank" if parts[1] == "rerank" else f"/v2/{parts[1]}")
    if parts and (parts[0] in extra or _is_route(parts)):
        return Location(endpoint, f"/v1/{'/'.join(parts)}")
    return Location(endpoint, rest="/".join(after)) if endpoint and after else None


def not_found(method: str, path: str, base_urls: Sequence[str]) -> ApiError:
    """The error for an unknown path. It names the unknown part after a valid base URL, or the endings of base URLs."""
    shown_path = shorten(path)
    below = _below(path, base_urls)
    route = _route_in_base_url(below)
    if below and not route:
        similar = suggest(below, map("/{}".format, ROUTES))
        below = shorten(below)
        text = f"Invalid URL ({method} {shown_path}): the base URL is right, and there is no {below} below it.{similar}"
        return ApiError(404, text, "unknown_url")
    endings = " or ".join(base_urls) + (f", without {route}" if route else "")
    return ApiError(404, f"Invalid URL ({method} {shown_path}). The base URL ends with {endings}.", "unknown_url")


def dialect_of(path: str) -> ApiDialect:
    """The API in whose form a path answers errors. The path may have any spelling, and may be unknown."""
    raw = path.lstrip("/").split("/")
    parts = _without_version(_without_empty(_split_endpoint(raw)[1] if _names_endpoint(raw) else raw))
    return _DIALECTS.get(parts[0], ApiDialect.OPENAI) if parts else ApiDialect.OPENAI


_BASES = ("openai", "v1")
"""The parts of base URLs, without /v2/ID."""

_DIALECTS = {"messages": ApiDialect.ANTHROPIC, "responses": ApiDialect.RESPONSES}


def _names_endpoint(raw: list[str]) -> bool:
    """Whether a path begins with /v2/ID. `raw`: its parts, also empty ones."""
    return raw[0] == "v2" and not _is_cohere_path(_without_empty(raw))


def _split_endpoint(raw: list[str]) -> tuple[str, list[str]]:
    """Split a path that begins with /v2/ID into the ID and the parts after it. The ID is "" if it is missing or empty
    before /openai or /v1. Other doubled slashes before the ID count as one."""
    endpoint, *rest = _without_empty(raw[1:]) or [""]
    return ("", raw[2:]) if raw[1:2] == [""] and endpoint in _BASES else (endpoint, rest)


def _without_version(parts: list[str]) -> list[str]:
    """The parts after a base URL, of the parts of a path without /v2/ID."""
    return list(dropwhile(_BASES.__contains__, parts))


def _is_route(parts: list[str]) -> bool:
    match parts:
        case ["models", _, *_] | ["responses", _, "cancel"]:
            return True
        case ["responses", name] if name not in ROUTES:
            return True
    return "/".join(parts) in ROUTES


def _below(path: str, base_urls: Sequence[str]) -> str:
    """The part of a path after one of the base URLs; "" if it has none."""
    parts = _without_empty(path.split("/"))
    for base in base_urls:
        words = base.removeprefix("/").split("/")
        if len(parts) > len(words) and all(word in ("ID", part) for word, part in zip(words, parts, strict=False)):
            return "/" + "/".join(parts[len(words) :])
    return ""


def _route_in_base_url(below: str) -> str:
    """The first of two routes in a path below a base URL; "" if there are not two.

    A path has two routes if the base URL of a client is the URL of a route. The client then adds a second route.
    """
    parts = _without_version(_without_empty(below.split("/")))
    for count in range(1, MAX_PARTS + 1):
        route, rest = "/".join(parts[:count]), _without_version(parts[count:])
        if route in ROUTES and rest and (_is_route(rest) or _is_cohere_path(rest)):
            return f"/{route}"
    return ""


def _is_cohere_path(parts: list[str]) -> bool:
    return len(parts) == 2 and parts[0] == "v2" and parts[1] in COHERE


def _without_empty(parts: list[str]) -> list[str]:
    return [part for part in parts if part]
