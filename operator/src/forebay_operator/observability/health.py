"""The operator's own port for probes and metrics. Standby operators serve it too."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from aiohttp import web

from forebay_kube.ops_port import serve_ops_port

MAX_STALL = 300.0
"""Seconds without progress after which a work queue with keys is reported as hung. One reconcile takes less, even if
each of its requests times out."""


@dataclass(frozen=True)
class Health:
    """The state that the probes report.

    Attributes:
        leads: whether this operator holds the lease and works.
        synced: whether it has reconciled every endpoint that existed at its start.
        stalled_seconds: seconds without progress of the work queue.
        trouble: why its cache may be outdated; "" while all is well.
    """

    leads: bool = False
    synced: bool = False
    stalled_seconds: float = 0.0
    trouble: str = ""

    def live(self) -> tuple[bool, str]:
        """Whether the operator is alive, and a sentence that says why."""
        stalled = self.stalled_seconds
        return stalled <= MAX_STALL, f"the work queue made no progress for {stalled:.0f} s" if stalled else "ok"

    def ready(self) -> tuple[bool, str]:
        """Whether the operator is ready, and the reason.

        A standby operator is ready. The leader is ready once it is synced.
        """
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
