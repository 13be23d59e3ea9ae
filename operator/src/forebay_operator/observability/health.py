"""The operator's own port: probes and metrics, answered by standing-by operators too."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from aiohttp import web

from forebay_kube.ops_port import Handler, serve_ops_port

MAX_STALL = 300.0
"""Seconds without any progress of a queue that has work before the operator counts as hung: more than one reconcile
takes when each of its requests runs into its time-out."""


@dataclass
class Health:
    """What the probes are answered from.

    Attributes:
        leads: whether this operator holds the lease and works.
        synced: whether it has reconciled every endpoint that there was when it began.
        stalled_for: seconds for which the work queue has made no progress.
        trouble: why what it knows of the cluster may be old; "" while all is well.
    """

    leads: bool = False
    synced: bool = False
    stalled_for: Callable[[], float] = lambda: 0.0
    trouble: Callable[[], str] = lambda: ""

    def live(self) -> tuple[bool, str]:
        """Whether the operator works, and the sentence for whoever asks."""
        stalled = self.stalled_for()
        return stalled <= MAX_STALL, f"the work queue made no progress for {stalled:.0f} s" if stalled else "ok"

    def ready(self) -> tuple[bool, str]:
        """Whether the operator is of use: it stands by, or has seen every endpoint."""
        if not self.leads:
            return True, "standing by"
        if trouble := self.trouble():
            return False, trouble
        return self.synced, "leading" if self.synced else "leading, in the first pass over all endpoints"


def serve_health(address: str, health: Health) -> AbstractAsyncContextManager[None]:
    """Answer /healthz, /readyz and /metrics on HOST:PORT (no host: every address) until the context ends."""

    def answer(ask: Callable[[], tuple[bool, str]]) -> Handler:
        async def handle(_: web.Request) -> web.Response:
            well, text = ask()
            return web.Response(status=200 if well else 503, text=text + "\n")

        return handle

    return serve_ops_port(address, {"/healthz": answer(health.live), "/readyz": answer(health.ready)})
