"""The budgets that all clients of one gateway share, from the limits of its command line.

`app` creates the one `Budgets`.
"""

from forebay_gateway.fairness.quotas import Quota, SourceQuota
from forebay_gateway.fairness.scheduler import COOLDOWN_FACTOR, FairScheduler
from forebay_gateway.metrics import KEPT_BYTES
from forebay_gateway.settings import MIB, Limits

FLOOR = 4 * MIB
"""Bytes of bodies, and of answers, that each namespace may always keep."""


class Budgets:
    """Memory, connections and time in the event loop.

    Attributes:
        limits: the limits of the command line.
        bodies: bytes of requests that no pod has taken yet.
        answers: bytes of answers that no client has taken yet, and of outputs that are not stored yet.
        known: connections with a valid key, by namespace.
        unknown: connections without a valid key, by their address.
        scheduler: gives namespaces their turns in the event loop.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.bodies = Quota(limits.kept_bytes, limits.namespace_share, FLOOR)
        self.answers = Quota(limits.kept_bytes * 3 // 4, limits.namespace_share, FLOOR)
        self.known = Quota(limits.connections, limits.namespace_share)
        self.unknown = SourceQuota(limits.unknown_connections, limits.unknown_per_source, limits.trusted_proxies)
        self.scheduler = FairScheduler(0 if limits.namespace_share == 1 else COOLDOWN_FACTOR)
        KEPT_BYTES.set_function(lambda: self.bodies.used + self.answers.used)
