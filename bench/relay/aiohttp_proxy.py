"""A plain proxy with aiohttp: PORT UPSTREAM."""

import sys
from collections.abc import AsyncIterator

from aiohttp import ClientSession, TCPConnector, web


async def session(app: web.Application) -> AsyncIterator[None]:
    async with ClientSession(connector=TCPConnector(limit=0)) as made:
        app["session"] = made
        yield


async def relay(request: web.Request) -> web.StreamResponse:
    headers = {"content-type": "application/json"}
    body = await request.read()
    async with request.app["session"].post(sys.argv[2] + request.path_qs, data=body, headers=headers) as answer:
        response = web.StreamResponse(status=answer.status, headers={"content-type": answer.headers["content-type"]})
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response


if __name__ == "__main__":
    app = web.Application()
    app.cleanup_ctx.append(session)
    app.router.add_post("/{path:.*}", relay)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, backlog=4096)
