"""Which URLs clients use for which route. Pod and gateway read a path by the same table.

vLLM's own app is compared with it by tests/vllm/test_routes.py; docs/api.md has the table of spellings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from urllib.parse import unquote

from forebay_protocol.errors import ApiDialect, ApiError, shorten
from forebay_protocol.spelling import suggest

PROBES = frozenset({"/health", "/ping"})
"""Answered without a key: they say that the server is up, and nothing else."""

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
"""What comes after /v1/ for any pod, besides models/MODEL, whose name may have slashes, responses/ID and
responses/ID/cancel. What changes the state of vLLM (load_lora_adapter, …) is not here."""

MAX_PARTS = max(route.count("/") for route in ROUTES) + 1
"""Parts of the longest route."""

COHERE = frozenset({"embed", "rerank"})
"""What cohere's clients ask for under /v2/. vLLM answers /v2/rerank as /v1/rerank, and has /v2/embed for itself."""

OWN_URLS = ("/v1", "/v2/ID/openai/v1")
"""How the base URLs of one endpoint end; ID stands for any ID."""

SHARED_URLS = ("/v2/ID/openai/v1", "/openai/v1")
"""How the base URLs of the gateway end: for the endpoint of an ID, and for the endpoint that serves the model."""


@dataclass(frozen=True)
class Location:
    """What a path names.

    Attributes:
        endpoint: the ID in /v2/ID/…; "" where it names none.
        path: one spelling for all: /v1/… for the routes of the API, or a probe's; "" for what is none of them.
        rest: what comes after /v2/ID/ where that is no route of the API, such as run or status/JOB.
    """

    endpoint: str
    path: str = ""
    rest: str = ""


def locate(path: str, extra: frozenset[str] = frozenset()) -> Location | None:
    """What a path names, in whichever way a client has put it together; None where nothing is there.

    Base URLs are the root, /v1, /openai and /openai/v1, and each of them under /v2/ID. So a client may be given any of
    them, whether or not it adds /v1 or /openai/v1 by itself. Slashes may be doubled, and one may be at the end.

    Args:
        path: percent-encoded or not.
        extra: first parts after /v1/ besides those of a pod, with whatever comes below them.
    """
    if not {".", ".."}.isdisjoint(unquote(path).split("/")):
        return None
    raw = path.lstrip("/").split("/")
    if (probe := f"/{'/'.join(_without_empty(raw))}") in PROBES:
        return Location("", probe)
    endpoint = ""
    if _names_endpoint(raw):
        endpoint, raw = _take_endpoint(raw)
        if not endpoint:
            return None
    after = _without_empty(raw)
    parts = _without_version(after)
    if _is_coheres(parts):
        return Location(endpoint, "/v1/rerank" if parts[1] == "rerank" else f"/v2/{parts[1]}")
    if parts and (parts[0] in extra or _is_route(parts)):
        return Location(endpoint, f"/v1/{'/'.join(parts)}")
    return Location(endpoint, rest="/".join(after)) if endpoint and after else None


def not_found(method: str, path: str, base_urls: Sequence[str]) -> ApiError:
    """For a path that is not there: what is unknown below a base URL that is right, else how one would end."""
    asked = shorten(path)
    below = _below(path, base_urls)
    route = _route_in_base_url(below)
    if below and not route:
        similar = suggest(below, map("/{}".format, ROUTES))
        below = shorten(below)
        text = f"Invalid URL ({method} {asked}): the base URL is right, and there is no {below} below it.{similar}"
        return ApiError(404, text, "unknown_url")
    endings = " or ".join(base_urls) + (f", without {route}" if route else "")
    return ApiError(404, f"Invalid URL ({method} {asked}). The base URL ends with {endings}.", "unknown_url")


def dialect_of(path: str) -> ApiDialect:
    """Whose errors a path answers with, in any spelling, and whether or not something is there."""
    raw = path.lstrip("/").split("/")
    parts = _without_version(_without_empty(_take_endpoint(raw)[1] if _names_endpoint(raw) else raw))
    return _DIALECTS.get(parts[0], ApiDialect.OPENAI) if parts else ApiDialect.OPENAI


_BASES = ("openai", "v1")
"""What base URLs are made of, besides /v2/ID."""

_DIALECTS = {"messages": ApiDialect.ANTHROPIC, "responses": ApiDialect.RESPONSES}


def _names_endpoint(raw: list[str]) -> bool:
    """Whether a path begins with /v2/ID. `raw`: its parts, the empty ones too."""
    return raw[0] == "v2" and not _is_coheres(_without_empty(raw))


def _take_endpoint(raw: list[str]) -> tuple[str, list[str]]:
    """The ID of a path that begins with /v2/ID, and what comes after it. "" for none, as where a client has an empty ID
    before /openai/v1; any other slashes before the ID came together."""
    endpoint, *rest = _without_empty(raw[1:]) or [""]
    return ("", raw[2:]) if raw[1:2] == [""] and endpoint in _BASES else (endpoint, rest)


def _without_version(parts: list[str]) -> list[str]:
    """What comes after a base URL, for the parts of a path without /v2/ID."""
    return list(dropwhile(_BASES.__contains__, parts))


def _is_route(parts: list[str]) -> bool:
    match parts:
        case ["models", _, *_] | ["responses", _, "cancel"]:
            return True
        case ["responses", name] if name not in ROUTES:
            return True
    return "/".join(parts) in ROUTES


def _below(path: str, base_urls: Sequence[str]) -> str:
    """What of a path comes after one of the base URLs; "" where it has none."""
    parts = _without_empty(path.split("/"))
    for base in base_urls:
        words = base.removeprefix("/").split("/")
        if len(parts) > len(words) and all(word in ("ID", part) for word, part in zip(words, parts, strict=False)):
            return "/" + "/".join(parts[len(words) :])
    return ""


def _route_in_base_url(below: str) -> str:
    """The route at the beginning of a path below a base URL where another follows; "" for any other path. Somebody
    gave a client the URL of one route as its base URL, and the client added the path of a route."""
    parts = _without_version(_without_empty(below.split("/")))
    for count in range(1, MAX_PARTS + 1):
        route, rest = "/".join(parts[:count]), _without_version(parts[count:])
        if route in ROUTES and rest and (_is_route(rest) or _is_coheres(rest)):
            return f"/{route}"
    return ""


def _is_coheres(parts: list[str]) -> bool:
    return len(parts) == 2 and parts[0] == "v2" and parts[1] in COHERE


def _without_empty(parts: list[str]) -> list[str]:
    return [part for part in parts if part]
