"""The answers of a pod to a job."""

import json
from typing import Any

from tests.integration.canned_pod import Exchange


async def finish(exchange: Exchange, *items: Any, status: str = "COMPLETED", **more: Any) -> None:
    """Run a job as forebay_server does it."""
    await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n")
    for line in (*({"output": item} for item in items), {"status": status, **more}):
        await exchange.send(json.dumps(line).encode() + b"\n")
