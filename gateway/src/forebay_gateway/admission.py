"""What is decided of a request by its head."""

from dataclasses import dataclass

from forebay_gateway.errors import Api
from forebay_gateway.head import Head
from forebay_gateway.names import Key
from forebay_gateway.paths import Path


@dataclass(frozen=True)
class Admission:
    """Of a request that may come in.

    Attributes:
        key: the endpoint; None where the body's model tells it, or where all are asked about.
        opened: in that case, the endpoints that may be meant.
        request_id: the client's, or one that it is given.
    """

    head: Head
    path: Path
    key: Key | None
    request_id: str
    opened: frozenset[Key] = frozenset()

    @property
    def api(self) -> Api:
        """Whose errors the client knows."""
        return self.path.api
