"""Which paths are answered, which endpoint they name, and which of them need the engine."""

from dataclasses import dataclass
from enum import Enum

from forebay_gateway.http.job_operations import read_operation
from forebay_protocol.errors import ApiDialect
from forebay_protocol.routes import COHERE, PROBES, ROUTES, dialect_of, locate

WEB_SOCKETS = frozenset({"/v1/realtime"})
"""Paths that are asked for as web sockets; elsewhere such a request is answered like any other."""

_BATCHES = frozenset({"batches", "files"})

_POSTED = frozenset(f"/v1/{path}" for path in ROUTES - {"models", "openapi.json", "realtime", "tokenizer_info"})
_GENERATING = _POSTED | {f"/v2/{path}" for path in COHERE}
"""Paths that a pod answers with its engine when they are posted to. Of a response (/v1/responses/ID) that was in a pod
nothing is left in another."""


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
        return ApiDialect.RUNPOD if self.kind is RouteKind.JOBS else dialect_of(self.canonical)


def read_path(method: str, target: bytes, *, shared: bool) -> Path | None:
    """Of the port that is shared by all endpoints, or of one endpoint's own; None for a path that is not there."""
    written, mark, query = target.decode("latin-1").partition("?")
    location = locate(written, _BATCHES if shared else frozenset())
    if location is None:
        return None
    endpoint, path, rest = location.endpoint, location.path, location.rest
    if not path:
        operation = read_operation(rest)
        if not operation or (operation != "runsync" and not shared):
            return None
        to_pod = f"/v2/{endpoint}/{operation}{mark}{query}".encode("latin-1")
        if shared:
            return Path(endpoint, f"/{operation}", to_pod, RouteKind.JOBS)
        return Path(endpoint, "/runsync", to_pod, RouteKind.ENGINE if method == "POST" else RouteKind.PASSIVE)
    to_pod = f"{path}{mark}{query}".encode("latin-1")
    return Path(endpoint, path, to_pod, kind) if (kind := _kind(method, path, shared=shared)) else None


def is_upload(method: str, target: bytes, *, shared: bool) -> bool:
    """Whether a request uploads a file, which the gateway takes itself."""
    if method != "POST" or b"/files" not in target:  # most requests need no second look at their path
        return False
    path = read_path(method, target, shared=shared)
    return path is not None and path.kind is RouteKind.BATCHES and path.canonical.rstrip("/") == "/v1/files"


def _kind(method: str, path: str, *, shared: bool) -> RouteKind | None:
    """How a request for a path of the API, or a probe's, is answered."""
    if path in PROBES:
        return RouteKind.PROBE
    resource = path.split("/")[2]
    if resource == "openapi.json":
        return None if shared else RouteKind.PASSIVE
    if resource in _BATCHES:
        return RouteKind.BATCHES
    if resource == "models" and method in ("GET", "HEAD"):
        return RouteKind.MODELS
    needs_engine = path in (_GENERATING if method == "POST" else WEB_SOCKETS if method == "GET" else ())
    return RouteKind.ENGINE if needs_engine else RouteKind.PASSIVE
