"""Requests to a composed server's ops port and to its API, with the standard library."""

import json
import time
import urllib.request
from typing import Any

from bench.servers import Server
from forebay_server.config import settings
from tests.fetch import fetch
from tests.gpu.plan import MODEL

OPS = f"http://127.0.0.1:{settings.OPS_PORT}"


def get(path: str, timeout: float = 10) -> tuple[int, str]:
    """GET on the ops port: status and body; (0, "") while it does not listen."""
    try:
        return fetch(f"{OPS}{path}", timeout)
    except OSError:
        return 0, ""


def control(path: str, token: str) -> Any:
    """Engine control. Raises RuntimeError with the server's message if it refuses."""
    request = urllib.request.Request(f"{OPS}{path}", b"", {"Authorization": f"Bearer {token}"}, method="POST")
    status, body = fetch(request, 200)
    if status != 200:
        raise RuntimeError(f"{path} was answered {status}: {body}")
    return json.loads(body)


def complete(server: Server, tokens: int = 8) -> tuple[int, str]:
    """Request a completion with temperature 0: status and text. Raises OSError if the server is not reachable."""
    asked = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": tokens, "ignore_eos": True, "temperature": 0}
    headers = {"Content-Type": "application/json", **server.headers}
    request = urllib.request.Request(f"{server.url}/completions", json.dumps(asked).encode(), headers)
    status, body = fetch(request, 200)
    return status, json.loads(body)["choices"][0]["text"] if status == 200 else ""


def await_status(path: str, status: int, seconds: float) -> float:
    """Seconds until GET `path` is answered with `status`. Raises TimeoutError."""
    began = time.monotonic()
    while get(path)[0] != status:
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"{path} was not answered {status} within {seconds:g} s")
        time.sleep(0.02)
    return time.monotonic() - began


def in_flight() -> int:
    """Requests that run now; 0 once the server has ended."""
    for line in get("/metrics")[1].splitlines():
        if line.startswith("forebay_requests_in_flight "):
            return int(float(line.split()[1]))
    return 0
