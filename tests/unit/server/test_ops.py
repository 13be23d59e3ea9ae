"""The second port."""

import json
import socket
import urllib.error
import urllib.request
from contextlib import ExitStack
from http import HTTPStatus

import pytest

from forebay_server.lifecycle.startup import Download, Step
from forebay_server.lifecycle.state import ServerState
from forebay_server.serving.ops_server import MAX_CONNECTIONS, OpsServer, any_address, reply

STARTING = ServerState()
DOWNLOADING = ServerState(step=Step.DOWNLOADING, download=Download(100))
READY = ServerState(step=Step.READY)
DRAINING = ServerState(step=Step.READY, draining=True)
DEAD = ServerState(step=Step.READY, engine_dead=lambda: True)
WEDGED = ServerState(step=Step.READY, engine_stuck=lambda: "no step for 120 s")


@pytest.mark.parametrize(
    ("state", "probes", "step", "reason"),
    [
        (STARTING, (503, 503, 200), "Importing", "starting: Importing"),
        (DOWNLOADING, (503, 503, 200), "Downloading", "starting: Downloading"),
        (READY, (200, 200, 200), "Ready", ""),
        (DRAINING, (200, 503, 200), "Ready", "shutting down"),
        (DEAD, (200, 503, 503), "Ready", "the engine has stopped"),
        (WEDGED, (200, 503, 503), "Ready", "no step for 120 s"),
    ],
)
def test_probes_report_the_state_and_the_reason(
    state: ServerState, probes: tuple[int, int, int], step: str, reason: str
) -> None:
    answers = {path: reply(path, state, bytes) for path in ("/startupz", "/readyz", "/livez", "/startup")}
    assert tuple(int(answer[0]) for answer in answers.values()) == (*probes, 200)
    assert json.loads(answers["/startup"][2])["step"] == step
    assert json.loads(answers["/readyz"][2])["reason"] == reason


def test_metrics_include_forebays_and_vllms() -> None:
    status, content_type, body = reply("/metrics", DOWNLOADING, lambda: b"vllm:x 1\n")
    assert status is HTTPStatus.OK
    lines = body.decode().splitlines()
    assert lines[-1] == "vllm:x 1"
    assert 'forebay_startup_step{step="Downloading"} 1.0' in lines
    assert 'forebay_startup_step{step="Ready"} 0.0' in lines
    assert "forebay_download_size_bytes 100.0" in lines
    assert "forebay_ready 0.0" in lines
    assert "# TYPE forebay_requests_total counter" in lines
    assert any(line.startswith('forebay_startup_step_seconds{step="Downloading"} ') for line in lines)
    assert content_type.startswith("text/plain")


def test_silent_connections_block_no_probe() -> None:
    with OpsServer("127.0.0.1", 0, ServerState(), bytes) as server, ExitStack() as stack:
        server.start()
        address = "127.0.0.1", server.server_address[1]
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(MAX_CONNECTIONS + 10)]
        for connection in silent[:10]:
            connection.settimeout(5)
            assert connection.recv(1) == b"", "the oldest connections are closed"
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/startup", timeout=5) as response:
            assert response.status == 200
        assert len(server._open) <= MAX_CONNECTIONS
        server.shutdown()


def test_the_port_answers_over_http() -> None:
    with OpsServer(any_address(), 0, ServerState(), bytes) as server:
        server.start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        with urllib.request.urlopen(f"{base}/startup?x=1") as response:
            assert json.load(response)["step"] == "Importing"
        for path, status in (("/readyz", 503), ("/nothing", 404)):
            with pytest.raises(urllib.error.HTTPError) as error:
                urllib.request.urlopen(base + path)
            with error.value as answer:
                assert answer.code == status
        server.shutdown()
