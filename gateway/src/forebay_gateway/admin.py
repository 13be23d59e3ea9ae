"""The ops port: probes, metrics, and the held requests for the operator's autoscaler. `app` opens it."""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from aiohttp import web

from forebay_kube.ops_port import serve_ops_port

SINCE = time.time()

VALKEY_REMEDY = "For the chart's own Valkey, `kubectl get pods,pvc` shows whether it runs and its claim is bound."


def serve_ops(
    address: str,
    not_ready_because: Callable[[], str],
    job_trouble: Callable[[], str],
    held: Callable[[], object],
    reread: Callable[[], object],
) -> AbstractAsyncContextManager[None]:
    """Answer /healthz, /readyz, /metrics and /held on HOST:PORT (no host: every address) until the context ends.

    While the job store does not answer, /readyz still answers 200, with `job_trouble` as its text: other requests are
    served.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if reason := not_ready_because():
            return web.Response(status=503, text=f"{reason}\n")
        trouble = job_trouble()
        return web.Response(
            text=f"ready, but not for jobs and files: {trouble}. {VALKEY_REMEDY}\n" if trouble else "ready\n"
        )

    async def held_requests(_: web.Request) -> web.Response:
        return web.json_response({"endpoints": held(), "reread": reread(), "since": SINCE})

    return serve_ops_port(address, {"/healthz": healthz, "/readyz": readyz, "/held": held_requests})
