"""Both ends of a relayed answer, without sockets."""

from collections.abc import Callable
from typing import Any, cast

from forebay_gateway.fairness.scheduler import Reader
from forebay_gateway.proxy.upstream import Upstream


class Client:
    """The bytes that it received."""

    def __init__(self) -> None:
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def wait_for_turn(self, callback: Callable[[], None]) -> None:
        callback()


class PodTransport:
    """A fake of the transport to the pod."""

    aborted = closed = False

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def connect(upstream: Upstream) -> PodTransport:
    """As connection_made does, which sets options of a socket."""
    made = PodTransport()
    upstream.transport = cast("Any", made)
    upstream.reader = Reader(upstream.transport)
    return made
