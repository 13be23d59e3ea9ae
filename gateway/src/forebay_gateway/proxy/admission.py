"""The decision about a request from its head alone, before its body is read. The handler makes it."""

from dataclasses import dataclass

from forebay_gateway.http.job_operations import named_operation
from forebay_gateway.http.messages import Head
from forebay_gateway.http.routes import WEB_SOCKETS, Path, read_path
from forebay_kube.endpoint_key import EndpointKey
from forebay_protocol.errors import ApiDialect
from forebay_protocol.routes import dialect_of


@dataclass(frozen=True)
class Admission:
    """An admitted request.

    Attributes:
        key: the endpoint; None if the body's model selects the endpoint, or if the request concerns all endpoints.
        authorized: if `key` is None, the endpoints that the request may concern.
        request_id: the client's ID, or a generated one.
        streams_body: whether the body is processed while it arrives.
        known: whether it has a valid key, or its endpoint needs none. False for health checks and preflights.
    """

    head: Head
    path: Path
    key: EndpointKey | None
    request_id: str
    authorized: frozenset[EndpointKey] = frozenset()
    known: bool = True
    streams_body: bool = False

    @property
    def tenant(self) -> str:
        """The namespace that the request is counted for until its model is known; "" if it may be any namespace."""
        if self.key:
            return self.key[0]
        return min(self.authorized)[0] if self.authorized and self.head.key else ""

    @property
    def web_socket(self) -> bool:
        """Whether the request opens a web socket that Forebay supports."""
        return self.head.is_web_socket and self.path.canonical in WEB_SOCKETS

    @property
    def api(self) -> ApiDialect:
        """The API whose errors the client understands."""
        return self.path.api


def api_of(head: Head | None, *, shared: bool) -> ApiDialect:
    """The API whose errors the client of a refused request understands."""
    if head is None:
        return ApiDialect.OPENAI
    path = read_path(head.method, head.target, shared=shared)
    if path is None and shared and named_operation(head.path):
        return ApiDialect.RUNPOD
    return path.api if path else dialect_of(head.path)
