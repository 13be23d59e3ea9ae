"""The ops port of a process: probes, metrics, and requests from other parts of Forebay.

The operator's health server and the gateway's admin server are built on it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import REGISTRY, generate_latest

Handler = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def serve_ops_port(address: str, handlers: Mapping[str, Handler]) -> AsyncIterator[None]:
    """Answer GET of these paths, and of /metrics, on HOST:PORT (no host: every address) until the context ends.

    Raises:
        OSError: the address cannot be listened on.
    """
    host, _, port = address.rpartition(":")
    app = web.Application()
    for path, handler in {"/metrics": _metrics, **handlers}.items():
        app.router.add_get(path, handler)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
        yield
    finally:
        await runner.cleanup()


async def _metrics(_: web.Request) -> web.Response:
    content_type = "text/plain; version=0.0.4; charset=utf-8"
    return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": content_type})
