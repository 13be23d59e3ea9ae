"""A cluster's part in scaling: a gateway, pods that report their load, and an operator that is started."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai

from forebay_operator.resources.gateway_slice import read_port
from tests.endpoints import endpoint, reason_is
from tests.integration.canned_pod import CannedPod, own_address
from tests.integration.gateway_process import Gateway
from tests.integration.openai_calls import connects
from tests.kubectl import Kubectl, Manifest, wait_for

SCALING = {
    "maxReplicas": 3,
    "target": {"concurrency": 2},
    "idleTimeout": "3s",
    "stabilization": {"up": "2s", "down": "4s"},
}


_hosts = (f"127.94.0.{number}" for number in itertools.count(1))
"""Any address of the loopback network can be bound, so each simulated pod has its own."""


@dataclass
class Load:
    """The load that a server reports. If `answers` is False, it does not answer."""

    in_flight: int = 0
    begun: int = 0
    answers: bool = True
    asleep: bool = False
    orders: list[str] = field(default_factory=list)


@contextmanager
def listening(load: Load, host: str, port: int) -> Iterator[None]:
    """Answer on the ops port of a server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not load.answers:
                self.send_error(503)
                return
            figures = {
                "forebay_requests_in_flight": load.in_flight,
                "forebay_requests_total": load.begun,
                "forebay_sleeping": int(load.asleep),
            }
            body = "".join(f"{name} {value}.0\n" for name, value in figures.items()).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            load.orders.append(f"{self.path} {self.headers['Authorization']}")
            load.asleep = self.path.startswith("/sleep")
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: the tests' output is not the place."""

    with ThreadingHTTPServer((host, port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@dataclass
class ScalingStage:
    """An installation in its own namespaces.

    Attributes:
        start: runs an operator until the context ends.
    """

    kubectl: Kubectl
    system: Kubectl
    gateway: Gateway
    start: Callable[..., Any]
    loads: dict[str, Load] = field(default_factory=dict)
    """By the name of the pod."""

    def slice(self, name: str = "one") -> Manifest:
        """The slice that leads to the gateways."""
        return wait_for(lambda: self.kubectl.get("endpointslice", f"{name}-gateway"), "the slice exists")

    def listed(self, name: str = "one") -> list[str]:
        return [each["addresses"][0] for each in self.slice(name).get("endpoints") or ()]

    def replicas(self, name: str = "one") -> int:
        """The number in the spec; -1 without one."""
        return int((self.kubectl.get("iep", name) or {})["spec"].get("replicas", -1))

    def key(self, name: str = "one") -> str:
        secret = wait_for(lambda: self.kubectl.get("secret", f"{name}-api-key"), "the key exists")
        return self.kubectl.run(
            "get", "secret", secret["metadata"]["name"], '-o=go-template={{index .data "api-key" | base64decode}}'
        )

    def client(self, port: int, name: str = "one") -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"http://127.0.0.1:{port}/v2/{name}/openai/v1", api_key=self.key(name), max_retries=0
        )

    @contextmanager
    def playing(self, count: int) -> Iterator[list[str]]:
        """Play so many pods of the endpoint `one` that are not played yet, from their start on."""

        def new() -> list[str] | None:
            names = [each["metadata"]["name"] for each in self.kubectl.list("pods", "forebay.dev/endpoint=one")]
            found = [name for name in names if name not in self.loads]
            return found if len(found) >= count else None

        found = wait_for(new, f"{count} pods exist")
        servers = []
        for name in found:
            host, self.loads[name] = next(_hosts), Load()
            server = listening(self.loads[name], host, self.gateway.ops_port)
            server.__enter__()
            servers.append(server)
            status = {"podIP": host, "podIPs": [{"ip": host}], "phase": "Running", "conditions": [READY]}
            self.kubectl.patch("pod", name, {"status": status}, "--subresource=status")
        try:
            yield found
        finally:
            for server in servers:
                server.__exit__(None, None, None)


READY = {"type": "Ready", "status": "True"}


def make_idle(stage: ScalingStage) -> int:
    """An endpoint at zero. Returns its port at the gateway."""
    stage.kubectl.apply(endpoint(replicas=0, scaling=SCALING))
    wait_for(reason_is(stage.kubectl, "Idle"), "the slice points to the gateway")
    wait_for(lambda: stage.listed() == [own_address()], "the slice points to the gateway")
    port = read_port(stage.slice())
    wait_for(lambda: connects(port), "the gateway listens on that port")
    return port


@contextmanager
def reachable(stage: ScalingStage) -> Iterator[None]:
    """A pod's API port, as Kubernetes lists it for the Service."""
    with CannedPod() as pod:
        stage.gateway.pods("one", pod)
        yield
        stage.kubectl.run("delete", "endpointslice", "one-pod0")
