"""What is decided of a request by its head."""

from dataclasses import dataclass

from forebay_gateway.http.job_operations import asked_operation
from forebay_gateway.http.messages import Head
from forebay_gateway.http.routes import WEB_SOCKETS, Path, read_path
from forebay_kube.endpoint_key import EndpointKey
from forebay_protocol.errors import ApiDialect
from forebay_protocol.routes import dialect_of


@dataclass(frozen=True)
class Admission:
    """Of a request that may come in.

    Attributes:
        key: the endpoint; None where the body's model tells it, or where all are asked about.
        authorized: in that case, the endpoints that may be meant.
        request_id: the client's, or one that it is given.
        streams_body: its body is read while it comes.
        known: it has shown a valid key, or its endpoint asks for none; health checks and preflights have not.
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
        """The namespace on whose account it goes until its model is known; "" where that may be any."""
        if self.key:
            return self.key[0]
        return min(self.authorized)[0] if self.authorized and self.head.key else ""

    @property
    def web_socket(self) -> bool:
        return self.head.is_web_socket and self.path.canonical in WEB_SOCKETS

    @property
    def api(self) -> ApiDialect:
        """Whose errors the client knows."""
        return self.path.api


def api_of(head: Head | None, *, shared: bool) -> ApiDialect:
    """Whose errors a client knows that was not admitted."""
    if head is None:
        return ApiDialect.OPENAI
    path = read_path(head.method, head.target, shared=shared)
    if path is None and shared and asked_operation(head.path):
        return ApiDialect.RUNPOD
    return path.api if path else dialect_of(head.path)
