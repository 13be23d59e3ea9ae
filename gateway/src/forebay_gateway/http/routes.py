"""Which paths are answered, which endpoint they name, and which of them need the engine."""

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote

from forebay_gateway.http.job_operations import read_operation
from forebay_protocol.errors import ApiDialect

RESOURCES = frozenset(
    {
        "audio",
        "chat",
        "completions",
        "embeddings",
        "messages",
        "models",
        "moderations",
        "openapi.json",
        "realtime",
        "rerank",
        "responses",
        "score",
        "classify",
        "detokenize",
        "pooling",
        "tokenize",
    }
)
"""The first part of a path after /v1/, as forebay_server's routes have them: what is not named is not there."""

WEB_SOCKETS = frozenset({"/v1/realtime"})
"""Paths that are asked for as web sockets; elsewhere such a request is answered like any other."""

_PROBES = frozenset({"/health", "/ping"})
_V2 = re.compile(r"^/v2/([^/]+)(/openai/v1/.+|/runsync)$")
_V2_JOBS = re.compile(r"^/v2/([^/]+)/(.+)$")


class RouteKind(Enum):
    """How a request is answered while no pod is ready."""

    PROBE = "probe"
    """By the gateway, without a key."""

    MODELS = "models"
    """By the gateway."""

    ENGINE = "engine"
    """By a pod alone: this wakes an endpoint."""

    JOBS = "jobs"
    """By the gateway: RunPod's job API, on the shared port."""

    BATCHES = "batches"
    """By the gateway: OpenAI's files and batches, on the shared port."""

    PASSIVE = "passive"
    """By a pod alone, and no reason to start one."""


@dataclass(frozen=True)
class Path:
    """What a path asks for.

    Attributes:
        endpoint: the id that it names; "" where it names none.
        canonical: as vLLM knows it, such as /v1/chat/completions.
        target: the target for a pod, with the query.
    """

    endpoint: str
    canonical: str
    target: bytes
    kind: RouteKind

    @property
    def api(self) -> ApiDialect:
        if self.kind is RouteKind.JOBS:
            return ApiDialect.RUNPOD
        if self.canonical.startswith("/v1/messages"):
            return ApiDialect.ANTHROPIC
        return ApiDialect.RESPONSES if self.canonical.startswith("/v1/responses") else ApiDialect.OPENAI


def read_path(method: str, target: bytes, *, shared: bool) -> Path | None:
    """Of the port that is shared by all endpoints, or of one endpoint's own; None for a path that is not there."""
    path = target.partition(b"?")[0].decode("latin-1")
    if not {".", ".."}.isdisjoint(unquote(path).split("/")):
        return None
    if path in _PROBES:
        return Path("", path, target, RouteKind.PROBE)
    if path in ("/openapi.json", "/v1/openapi.json") and not shared:
        return Path("", path, target, RouteKind.PASSIVE)
    endpoint, rest, to_pod = "", path, target
    jobs = _V2_JOBS.match(path) if shared else None
    if jobs and (operation := read_operation(jobs[2])):
        return Path(jobs[1], f"/{operation}", target, RouteKind.JOBS)
    if named := _V2.match(path):
        endpoint, rest = named[1], named[2].removeprefix("/openai")
        if rest == "/runsync":
            return Path(endpoint, rest, target, RouteKind.ENGINE if method == "POST" else RouteKind.PASSIVE)
    elif shared:
        rest = path.removeprefix("/openai")
        to_pod = target.removeprefix(b"/openai")
        if rest == path:
            return None
    parts = rest.removeprefix("/").split("/")
    if shared and parts[0] == "v1" and parts[1:2] and parts[1] in ("files", "batches"):
        return Path(endpoint, rest, to_pod, RouteKind.BATCHES)
    if parts[0] != "v1" or len(parts) < 2 or parts[1] not in RESOURCES:
        return None
    if parts[1] == "models" and method in ("GET", "HEAD"):
        return Path(endpoint, rest, to_pod, RouteKind.MODELS)
    engine = method == "POST" or (method == "GET" and rest in WEB_SOCKETS)
    return Path(endpoint, rest, to_pod, RouteKind.ENGINE if engine else RouteKind.PASSIVE)
