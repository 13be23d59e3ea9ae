"""Two tenants behind one proxy that reuses its connections to the gateway: despite the client and pod of one, the
other's requests reach its own pod, and are answered by it. With nginx as ingress-nginx has it, and HAProxy."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import pytest

from cluster.programs import proxies
from tests.integration.canned_pod import CannedPod, Exchange, reply
from tests.integration.control_plane import free_ports, running
from tests.integration.gateway_process import KEY, Gateway
from tests.integration.openai_calls import connects, wait_until_listed
from tests.kubectl import wait_for

REQUESTS = 1000
"""Requests of both tenants in turn."""

CLIENTS = 8

THIEF_KEY = "fb_the-key-of-the-thief"

NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error.log warn; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream gateway {{ server 127.0.0.1:{gateway}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://gateway; proxy_http_version 1.1; proxy_set_header Host $host; proxy_buffering off;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
    }}
  }}
}}
"""

HAPROXY = """
global
  maxconn 256
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  http-reuse {reuse}
frontend clients
  bind 127.0.0.1:{port}
  default_backend gateways
backend gateways
  server gateway 127.0.0.1:{gateway}
"""

CONFIGURATIONS = {
    "nginx": ("nginx", NGINX, {}),
    "haproxy, reuse always": ("haproxy", HAPROXY, {"reuse": "always"}),
    "haproxy, reuse safe": ("haproxy", HAPROXY, {"reuse": "safe"}),
}

OWN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
STOLEN = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 17\r\n\r\n{"pod": "thief"}\n'
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

ANSWERS = [
    OWN,
    OWN.replace(b"\r\n\r\n", b"\r\nconnection: keep-alive\r\n\r\n"),
    OWN + STOLEN,
    SWITCHED,
    SWITCHED + STOLEN,
    b"HTTP/1.1 100 Continue\r\n\r\n" + OWN,
    b"HTTP/1.1 204 No Content\r\nkeep-alive: timeout=60\r\n\r\n" + STOLEN,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + STOLEN,
]
"""The first bytes of the thief's pod; they never end the connection."""

SOCKET = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
HEAD = b" HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\n" % THIEF_KEY.encode()
REALTIME, MODELS, CHAT = (
    b"/v2/thief/openai/v1/" + rest for rest in (b"realtime?model=thief/model", b"models", b"chat/completions")
)
BEHIND = b"GET /v2/thief/openai/v1/models?behind" + HEAD + b"\r\n"

ATTACKS = [
    b"GET " + REALTIME + HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + SOCKET + b"\r\n",
    b"GET " + REALTIME + HEAD + b"Upgrade: websocket\r\n\r\n",
    b"GET " + MODELS + HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + SOCKET + b"\r\n",
    b"GET " + MODELS + HEAD + b"Upgrade: websocket\r\nConnection: keep-alive\r\n\r\n",
    b"POST " + CHAT + HEAD + b"Content-Length: 2\r\n\r\n{}",
    b"POST "
    + CHAT
    + HEAD
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(BEHIND)
    + BEHIND,
    b"GET " + MODELS + HEAD + b"Connection: keep-alive\r\n\r\n" + BEHIND,
    b"HEAD " + MODELS + HEAD + b"\r\n",
    b"POST " + CHAT + HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
]


@dataclass
class Scene:
    """A gateway with two endpoints, and what their pods got."""

    gateway: Gateway
    pod: CannedPod
    thief: CannedPod
    marks: list[str] = field(default_factory=list)
    """Marks of the requests that the honest tenant's pod got."""
    loot: bytes = b""
    """All that the thief's pod got."""


@pytest.fixture(scope="module")
def scene(gateway: Gateway) -> Iterator[Scene]:
    gateway.endpoint("honest")
    gateway.endpoint("thief", keys=[THIEF_KEY], models=["thief/model"])
    answers = cycle(ANSWERS)

    async def answer(exchange: Exchange) -> None:
        mark = json.loads(await exchange.read_body())["mark"]
        found.marks.append(mark)
        await reply(exchange, 200, {"pod": "honest", "mark": mark})

    async def steal(exchange: Exchange) -> None:
        """Keep the connection open, and answer every request on it."""
        found.loot += exchange.head
        await exchange.send(next(answers))
        while more := await exchange.reader.read(65536):
            found.loot += more
            await exchange.send(STOLEN)

    with CannedPod() as pod, CannedPod() as thief:
        for name, each, key in (("honest", pod, KEY), ("thief", thief, THIEF_KEY)):
            gateway.pods(name, each)
            wait_until_listed(gateway, name, each, key)
        found = Scene(gateway, pod, thief)
        pod.answer, thief.answer = answer, steal
        yield found


@contextmanager
def standing_proxy(name: str, gateway: int, folder: Path) -> Iterator[int]:
    """A proxy in front of the gateway; its port."""
    program, text, values = CONFIGURATIONS[name]
    found, (port,) = proxies.find(program), free_ports(1)
    config = folder / "config"
    config.write_text(text.format(folder=folder, gateway=gateway, port=port, **values))
    flag = "-c" if program == "nginx" else "-f"
    with running(folder / "log", found.path, flag, config, env=found.environment):
        wait_for(lambda: connects(port), f"{name} listens")
        yield port


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_no_request_reaches_the_pod_of_another_endpoint(scene: Scene, name: str, tmp_path: Path) -> None:
    scene.marks.clear()
    scene.loot = b""
    kept = threading.local()

    def ask(mark: str) -> tuple[str, str]:
        """A request of the honest tenant on its open connection; returns the pod and the request that it got."""
        if not hasattr(kept, "connection"):
            kept.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            at_the_end.callback(kept.connection.close)
        body = json.dumps({"model": "org/model", "messages": [], "mark": mark})
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        kept.connection.request("POST", "/v2/honest/openai/v1/chat/completions", body, headers)
        answer = json.load(kept.connection.getresponse())
        return answer["pod"], answer["mark"]

    def attack(number: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(ATTACKS[number % len(ATTACKS)])
            connection.recv(65536)

    def act(number: int) -> tuple[str, str] | None:
        if number % 2:
            attack(number)
            return None
        return ask(f"secret-{number}")

    with ExitStack() as at_the_end, standing_proxy(name, scene.gateway.port, tmp_path) as port:
        pool = at_the_end.enter_context(ThreadPoolExecutor(CLIENTS))
        answers = [answer for answer in pool.map(act, range(REQUESTS)) if answer]
    marks = [f"secret-{number}" for number in range(0, REQUESTS, 2)]
    assert answers == [("honest", mark) for mark in marks]
    assert sorted(scene.marks) == sorted(marks)
    assert b"secret-" not in scene.loot
    assert KEY.encode() not in scene.loot
    assert scene.loot.count(THIEF_KEY.encode()) > REQUESTS // 4, "the thief's own requests reach the thief's pod"
