"""The states of a client's connection (client_connection).

It decides what the gateway may still write to the client.
"""

from enum import Enum, auto


class ConnectionState(Enum):
    """The state of the answer to a request."""

    READING = auto()
    """The request is coming in."""
    WAITING = auto()
    """The request is complete. No byte of an answer is written."""
    STREAMING = auto()
    """The client waits for a stream. It has received the head of one, and comments."""
    RELAYING = auto()
    """A pod writes the answer."""
    RELAYING_IN_STREAM = auto()
    """A pod writes the answer after the head of a stream, which the client has received before."""
    ANSWERED = auto()
    """The gateway has written the answer."""
