"""Parses paths: whether a path exists, which endpoint it names, and whether it needs the engine. The handler calls
it."""

from dataclasses import dataclass
from enum import Enum

from forebay_gateway.http.job_operations import read_operation
from forebay_protocol.errors import ApiDialect
from forebay_protocol.routes import COHERE, PROBES, ROUTES, dialect_of, locate

WEB_SOCKETS = frozenset({"/v1/realtime"})
"""Paths of web sockets. A web socket request to another path is handled as an ordinary one."""

_BATCHES = frozenset({"batches", "files"})

_POSTED = frozenset(f"/v1/{path}" for path in ROUTES - {"models", "openapi.json", "realtime", "tokenizer_info"})
_GENERATING = _POSTED | {f"/v2/{path}" for path in COHERE}
"""Paths whose POST needs the engine of a pod. (/v1/responses/ID does not: another pod does not have that response.)"""


class RouteKind(Enum):
    """How a request is answered while no pod is ready."""

    PROBE = "probe"
    """The gateway answers, without a key."""

    MODELS = "models"
    """The gateway answers."""

    ENGINE = "engine"
    """Only a pod answers. The request wakes an endpoint."""

    JOBS = "jobs"
    """RunPod's job API. The gateway answers, on the shared port."""

    BATCHES = "batches"
    """OpenAI's files and batches. The gateway answers, on the shared port."""

    PASSIVE = "passive"
    """Only a pod answers. The request does not start a pod."""


@dataclass(frozen=True)
class Path:
    """A parsed path.

    Attributes:
        endpoint: the ID of the endpoint; "" if the path names none.
        canonical: the path in vLLM's form, such as /v1/chat/completions.
        target: the target for a pod, with the query.
    """

    endpoint: str
    canonical: str
    target: bytes
    kind: RouteKind

    @property
    def api(self) -> ApiDialect:
        """The API whose errors the client understands."""
        return ApiDialect.RUNPOD if self.kind is RouteKind.JOBS else dialect_of(self.canonical)


def read_path(method: str, target: bytes, *, shared: bool) -> Path | None:
    """Parse a path of the shared port, or of one endpoint's own port. Returns None for an unknown path."""
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
    """Whether a request uploads a file to the gateway."""
    if method != "POST" or b"/files" not in target:  # a cheap check, so that most paths are parsed only once
        return False
    path = read_path(method, target, shared=shared)
    return path is not None and path.kind is RouteKind.BATCHES and path.canonical.rstrip("/") == "/v1/files"


def _kind(method: str, path: str, *, shared: bool) -> RouteKind | None:
    """The kind of a path of the API or of a probe."""
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
