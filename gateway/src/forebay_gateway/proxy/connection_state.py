"""The states of a client's connection (client_connection)."""

from enum import Enum, auto


class ConnectionState(Enum):
    """How far the answer to a request is."""

    READING = auto()
    """The request is coming in."""
    WAITING = auto()
    """The request is complete. Nothing of an answer is written."""
    STREAMING = auto()
    """The client waits for a stream: it has got the head of one, and comments."""
    RELAYING = auto()
    """A pod writes the answer."""
    RELAYING_IN_STREAM = auto()
    """A pod writes the answer behind the head of a stream, which the client has got before."""
    ANSWERED = auto()
    """The gateway has written the answer."""
