"""Both ends of a relayed answer, without sockets."""


class Client:
    """What was sent to it."""

    def __init__(self) -> None:
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Transport:
    """Of the pod's connection."""

    aborted = closed = False

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True
