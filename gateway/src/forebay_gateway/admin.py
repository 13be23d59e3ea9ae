"""The second port: probes, metrics, and what the operator's autoscaler asks for."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import REGISTRY, generate_latest

SINCE = time.time()


@asynccontextmanager
async def serve_ops(
    address: str, not_ready_because: Callable[[], str], held: Callable[[], object], reread: Callable[[], object]
) -> AsyncIterator[None]:
    """Answer /healthz, /readyz, /metrics and /held on HOST:PORT (no host: every address) until the context ends."""
    host, _, port = address.rpartition(":")

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = not_ready_because()
        return web.Response(status=503 if reason else 200, text=(reason or "ready") + "\n")

    async def metrics(_: web.Request) -> web.Response:
        content_type = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": content_type})

    async def tell_held(_: web.Request) -> web.Response:
        return web.json_response({"endpoints": held(), "reread": reread(), "since": SINCE})

    app = web.Application()
    for path, handler in {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics, "/held": tell_held}.items():
        app.router.add_get(path, handler)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
        yield
    finally:
        await runner.cleanup()
