"""The number of jobs of an endpoint: the store counts the jobs, and the activator reports the number.

This module has no dependencies, because both sides import it.
"""

from dataclasses import dataclass


@dataclass
class Backlog:
    """The numbers of jobs of one endpoint now: `queued`, `waiting` (queued jobs that may start pods) and `running`."""

    queued: int = 0
    waiting: int = 0
    running: int = 0
