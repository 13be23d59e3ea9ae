"""The operator's own port: probes and metrics, answered by standing-by operators too."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from aiohttp import web

from forebay_kube.ops_port import serve_ops_port

MAX_STALL = 300.0
"""Seconds without any progress of a queue that has work before the operator counts as hung: more than one reconcile
takes when each of its requests runs into its time-out."""


@dataclass(frozen=True)
class Health:
    """What the probes are answered from.

    Attributes:
        leads: whether this operator holds the lease and works.
        synced: whether it has reconciled every endpoint that there was when it began.
        stalled_seconds: for how long the work queue has made no progress.
        trouble: why what it knows of the cluster may be old; "" while all is well.
    """

    leads: bool = False
    synced: bool = False
    stalled_seconds: float = 0.0
    trouble: str = ""

    def live(self) -> tuple[bool, str]:
        """Whether the operator works, and the sentence for whoever asks."""
        stalled = self.stalled_seconds
        return stalled <= MAX_STALL, f"the work queue made no progress for {stalled:.0f} s" if stalled else "ok"

    def ready(self) -> tuple[bool, str]:
        """Whether the operator is of use: it stands by, or has seen every endpoint."""
        if not self.leads:
            return True, "standing by"
        if self.trouble:
            return False, self.trouble
        return self.synced, "leading" if self.synced else "leading, in the first pass over all endpoints"


def serve_health(address: str, health: Callable[[], Health]) -> AbstractAsyncContextManager[None]:
    """Answer /healthz, /readyz and /metrics on HOST:PORT (no host: every address) until the context ends."""

    async def healthz(_: web.Request) -> web.Response:
        return _answer(*health().live())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(*health().ready())

    return serve_ops_port(address, {"/healthz": healthz, "/readyz": readyz})


def _answer(well: bool, text: str) -> web.Response:
    return web.Response(status=200 if well else 503, text=text + "\n")
