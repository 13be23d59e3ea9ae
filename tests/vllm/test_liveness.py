"""Readiness and liveness of a real server: a wedged engine, a dead one, an idle one, a busy one."""

import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable

import pytest

from tests.vllm.server import Server

Serve = Callable[..., Server]

ONE_PROCESS = {"FOREBAY_ENGINE_STUCK_SECONDS": "4", "FOREBAY_ENGINE_PROBE_SECONDS": "0"}
WORKERS = {**ONE_PROCESS, "TENSOR_PARALLEL_SIZE": "2", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
ENGINES = {**ONE_PROCESS, "DATA_PARALLEL_SIZE": "2", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
CANNED = {
    "DISTRIBUTED_EXECUTOR_BACKEND": "forebay_canned.CannedExecutor",
    "FOREBAY_CANNED_STEP_SECONDS": "0.05",
    "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{os.getcwd()}/cluster/images/vllm-canned",
}


def ask(server: Server, tokens: int = 4) -> None:
    body = json.dumps({"prompt": "Hello", "max_tokens": tokens, "ignore_eos": True}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/v1/completions", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        json.load(answer)


def in_background(work: Callable[[], None]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        except OSError:
            return  # the server was ended under it

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def engine_processes(server: Server) -> list[int]:
    """The engine's process, and those of its workers where there are any."""
    return [pid for pid in server.children() if not is_tracker(pid)]


def is_tracker(pid: int) -> bool:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return b"resource_tracker" in file.read()


def stop_all(pids: list[int], number: int) -> None:
    for pid in pids:
        os.kill(pid, number)


@pytest.mark.parametrize("variables", [ONE_PROCESS, WORKERS], ids=["one process", "an engine with two workers"])
def test_a_wedged_engine_is_detected_and_recovers_when_it_continues(serve: Serve, variables: dict[str, str]) -> None:
    server = serve(**variables)
    server.wait_for("/readyz")
    ask(server)
    # The last is the engine's process or one of its workers: a worker that hangs holds up the engine.
    frozen = engine_processes(server)[-1:]
    stop_all(frozen, signal.SIGSTOP)
    try:
        request = in_background(lambda: ask(server))
        began = time.monotonic()
        assert "finished no step" in json.loads(server.wait_for("/livez", 503, 20))["reason"]
        assert 3.5 < time.monotonic() - began < 10
        assert server.ops("/readyz")[0] == 503
    finally:
        stop_all(frozen, signal.SIGCONT)
    server.wait_for("/readyz", 200, 20)
    request.join(30)
    assert not request.is_alive()


@pytest.mark.parametrize(
    "variables", [ONE_PROCESS, WORKERS, ENGINES], ids=["one process", "an engine with two workers", "two engines"]
)
def test_a_dead_process_is_detected_immediately(serve: Serve, variables: dict[str, str]) -> None:
    """Only the watch of processes can detect it: no request runs. The limit is for a busy machine."""
    server = serve(**variables)
    server.wait_for("/readyz")
    began = time.monotonic()
    os.kill(engine_processes(server)[-1], signal.SIGKILL)
    while True:
        try:
            if server.ops("/livez")[0] == 503:
                break
        except OSError:
            break  # the server has ended already
        assert time.monotonic() - began < 15
    assert server.process.wait(30) == 1


def test_an_idle_engine_is_probed_and_a_hanging_one_is_detected(serve: Serve) -> None:
    server = serve(FOREBAY_ENGINE_STUCK_SECONDS="3", FOREBAY_ENGINE_PROBE_SECONDS="2")
    server.wait_for("/readyz")
    server.wait_for_metric("forebay_engine_idle_seconds", lambda idle: idle > 1.5)
    server.wait_for_metric("forebay_engine_idle_seconds", lambda idle: idle < 1, 8)  # only a probe ends the idle time
    frozen = engine_processes(server)[-1:]
    stop_all(frozen, signal.SIGSTOP)
    try:
        server.wait_for("/livez", 503, 20)
    finally:
        stop_all(frozen, signal.SIGCONT)


def test_a_pod_under_full_load_is_never_unhealthy(serve: Serve) -> None:
    """400 requests for 16 places: the last waits far longer than what counts as wedged."""
    server = serve(**CANNED, FOREBAY_ENGINE_STUCK_SECONDS="2", FOREBAY_ENGINE_PROBE_SECONDS="1", MAX_NUM_SEQS="16")
    server.wait_for("/readyz")
    requests = [in_background(lambda: ask(server, 20)) for _ in range(400)]
    began = time.monotonic()
    looked = 0
    while any(request.is_alive() for request in requests):
        assert server.ops("/livez")[0] == 200
        assert server.ops("/readyz")[0] == 200
        looked += 1
        time.sleep(0.2)
    assert time.monotonic() - began > 10
    assert looked > 30
