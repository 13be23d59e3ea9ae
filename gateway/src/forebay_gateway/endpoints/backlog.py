"""The number of jobs of an endpoint: the store counts them, the activator reports them.

It has a module without dependencies, because both sides import it.
"""

from dataclasses import dataclass


@dataclass
class Backlog:
    """The jobs of one endpoint now: `queued`, `waiting` (those queued that may start pods) and `running`."""

    queued: int = 0
    waiting: int = 0
    running: int = 0
