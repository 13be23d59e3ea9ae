"""The ops port: probes, startup report, metrics and engine control, from the first second of the process.

It runs in a thread of its own, so that it answers while vLLM is imported and while the event loop is busy.
"""

import json
import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from forebay_server.lifecycle import startup
from forebay_server.lifecycle.startup import Step
from forebay_server.lifecycle.state import ServerState
from forebay_server.metrics import metrics as own_metrics
from forebay_server.serving.engine_control import CONTROL_OPERATIONS, Control, ControlRequest

JSON = "application/json"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

MAX_CONNECTIONS = 64
"""The most concurrent connections, each with a thread. Kubelet, operator, gateways and monitoring need a few."""

MAX_LENGTH_DIGITS = 10
"""The digits of a Content-Length that are read. A number with more digits exceeds every limit by these alone."""

OpsAnswer = tuple[HTTPStatus, str, bytes]


def any_address() -> str:
    """The address to listen on for every interface: "::" if IPv6 sockets accept IPv4 too, else "0.0.0.0"."""
    if not socket.has_dualstack_ipv6():
        return "0.0.0.0"
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        if probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
            return "0.0.0.0"
        try:
            probe.bind(("::", 0))
        except OSError:
            return "0.0.0.0"
    return "::"


def reply(path: str, state: ServerState, metrics: Callable[[], bytes]) -> OpsAnswer:
    """The answer to GET `path`.

    /startupz is 200 once the model has answered, /readyz while the server accepts requests, /livez unless only a
    restart can help. /startup is the report. /metrics has the server's metrics in Prometheus' text format, and vLLM's,
    which `metrics` returns.
    """
    if path == "/metrics":
        return HTTPStatus.OK, PROMETHEUS, own_metrics(state) + metrics()
    step = state.step
    if path == "/startup":
        return _json(True, _describe_startup(state))
    if path == "/startupz":
        return _json(step is Step.READY, {"step": step})
    if path == "/readyz":
        because = state.not_ready_because()
        return _json(not because, {"ready": not because, "reason": because, "step": step})
    if path == "/livez":
        sick = state.unhealthy_reason()
        return _json(not sick, {"alive": not sick, "reason": sick})
    body = json.dumps({"error": f"There is no {path} here."}).encode()
    return HTTPStatus.NOT_FOUND, JSON, body


def _describe_startup(state: ServerState) -> dict[str, object]:
    return startup.describe_startup(
        state.startup,
        state.download,
        reasoning_parser=state.reasoning_parser,
        vllm_version=state.vllm_version,
        variables=state.recognized_variables,
    )


def _json(good: bool, content: dict[str, object]) -> OpsAnswer:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return status, JSON, json.dumps(content).encode()


class OpsServer(ThreadingHTTPServer):
    """Answers GET by `reply`, and the paths of engine control by `control`.

    At MAX_CONNECTIONS a new connection closes the oldest one, so that slow clients cannot block the probes.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, state: ServerState, metrics: Callable[[], bytes]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.state = state
        self.metrics = metrics
        self.control = Control(None)
        self._open: dict[socket.socket, None] = {}
        self._changing = threading.Lock()
        super().__init__((host, port), _Handler)

    def attach_control(self, control: Control) -> None:
        """Answer the paths of engine control by `control`. Call it once the settings are known."""
        self.control = control

    def start(self) -> None:
        """Serve in a thread until the process ends. Forked processes close the port."""
        os.register_at_fork(after_in_child=self.socket.close)
        threading.Thread(target=self.serve_forever, name="ops", daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changing:
            if len(self._open) == MAX_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with suppress(OSError):  # it has already ended
                    oldest.shutdown(socket.SHUT_RDWR)
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._changing:
            self._open.pop(request, None)
        super().shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    server: OpsServer
    protocol_version = "HTTP/1.1"
    timeout = 10
    """Seconds that a connection may stay silent."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in CONTROL_OPERATIONS:
            self._control()
        else:
            self._send(*reply(path, self.server.state, self.server.metrics))

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        if path in CONTROL_OPERATIONS:
            self._control()
        else:
            self.close_connection = True
            self._send(HTTPStatus.NOT_FOUND, JSON, json.dumps({"error": f"There is no POST {path} here."}).encode())

    def _control(self) -> None:
        self.close_connection = True  # the body may be unread
        length = self.headers.get("Content-Length", "0")
        request = ControlRequest(
            self.command,
            self.path,
            self.headers.get("Authorization", ""),
            int(length[:MAX_LENGTH_DIGITS]) if length.isdecimal() else 0,
            self.rfile.read,
        )
        status, content, headers = self.server.control.answer(request)
        self._send(status, JSON, json.dumps(content).encode(), (*headers, ("Connection", "close")))

    def _send(
        self, status: HTTPStatus, content_type: str, body: bytes, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", content_type), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing, as probes come every few seconds."""
