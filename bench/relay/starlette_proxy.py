"""A plain proxy with Starlette, httpx and uvicorn (uvloop): PORT UPSTREAM."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route


@asynccontextmanager
async def session(app: Starlette) -> AsyncIterator[None]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=sys.argv[2], limits=limits, timeout=None) as made:
        app.state.client = made
        yield


async def relay(request: Request) -> StreamingResponse:
    client: httpx.AsyncClient = request.app.state.client
    headers = {"content-type": "application/json"}
    asked = client.build_request("POST", request.url.path, content=await request.body(), headers=headers)
    answer = await client.send(asked, stream=True)
    kind = {"content-type": answer.headers["content-type"]}
    return StreamingResponse(answer.aiter_raw(), answer.status_code, kind, background=BackgroundTask(answer.aclose))


if __name__ == "__main__":
    app = Starlette(routes=[Route("/{path:path}", relay, methods=["POST"])], lifespan=session)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", backlog=4096, loop="uvloop")
