"""Requests to a gateway, by the official client and without one."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai

from tests.integration.canned_pod import CannedPod
from tests.integration.gateway_process import KEY, MODEL, Gateway
from tests.kubectl import wait_for

HELLO: Any = [{"role": "user", "content": "Hello"}]


AUTHORIZED = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n" % KEY.encode()
"""A whole request's head but for its length."""


def ask(client: openai.OpenAI) -> str:
    """One whole answer."""
    answer = client.chat.completions.create(model=MODEL, messages=HELLO)
    return str(answer.choices[0].message.content)


def ask_streamed(client: openai.OpenAI) -> str:
    """One streamed answer."""
    stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream).strip()


def send(port: int, method: str, path: str, body: Any = None, key: str = KEY) -> tuple[int, dict[str, str], bytes]:
    """One request without a client's library: status, headers in lower case, body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    try:
        connection.request(method, path, data, headers)
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def chat(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": HELLO, **more}


@contextmanager
def ready_pod(gateway: Gateway, name: str, key: str = KEY) -> Iterator[CannedPod]:
    """A pod that Kubernetes lists as ready while the context lasts."""
    with CannedPod() as pod:
        gateway.pods(name, pod)
        wait_until_listed(gateway, name, pod, key)
        yield pod


def wait_until_listed(gateway: Gateway, name: str, pod: CannedPod, key: str = KEY) -> None:
    """Wait until the gateway polls a pod for its models."""

    def asks() -> bool:
        send(gateway.port, "GET", f"/v2/{name}/openai/v1/models", key=key)
        return bool(pod.requests)

    wait_for(asks, "the gateway has the pod in its directory")
    pod.requests.clear()


def raw(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Write parts with pauses between, then read to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        received = b""
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            received = b""  # it was refused before the last part
        while data := connection.recv(65536):
            received += data
        return received


def condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    when = "2026-11-24T12:00:00Z"
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": when}


def connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
