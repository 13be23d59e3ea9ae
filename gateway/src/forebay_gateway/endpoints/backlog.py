"""How many jobs an endpoint has: the store counts them, the activator reports them."""

from dataclasses import dataclass


@dataclass
class Backlog:
    """Jobs of one endpoint now: in the queue, those of them that may start pods, and those that run."""

    queued: int = 0
    waiting: int = 0
    running: int = 0
