"""While Valkey is away, as with a claim that stays Pending, the gateway says so and serves everything but jobs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cluster.pins import ROOT
from cluster.programs.redis import found_server
from tests.fetch import fetch
from tests.integration.canned_pod import TEXT, Exchange
from tests.integration.gateway_process import KEY, Gateway, namespaced_gateway
from tests.integration.job_pods import finish
from tests.integration.openai_calls import ask, ready_pod
from tests.integration.valkey_process import ValkeyServer
from tests.kubectl import Kubectl, wait_for

ITEM = {"choices": [{"tokens": ["Paris."]}], "usage": {"input": 5, "output": 1}}


async def run_job(exchange: Exchange) -> None:
    await exchange.read_body()
    await finish(exchange, ITEM)


def probe_ready(gateway: Gateway) -> tuple[int, str]:
    """The answer of the gateway's readiness probe."""
    return fetch(f"http://127.0.0.1:{gateway.ops_port}/readyz", 5)


def begin_job(gateway: Gateway, name: str) -> subprocess.Popen[str]:
    """The job of examples/."""
    command = [sys.executable, str(ROOT / "examples/job.py"), name, "What is the capital of France?"]
    base = f"http://127.0.0.1:{gateway.port}/v2"
    env = {**os.environ, "RUNPOD_ENDPOINT_BASE_URL": base, "RUNPOD_API_KEY": KEY}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def test_without_its_store_a_gateway_serves_all_except_jobs_and_reports_it(
    control_plane: Kubectl, run_cluster: Callable[..., None], tmp_path: Path
) -> None:
    if not found_server():
        run_cluster("redis")
    store = ValkeyServer(tmp_path)
    with namespaced_gateway(control_plane, tmp_path / "log", valkey_url=store.url) as gateway:
        gateway.endpoint("plain")
        with ready_pod(gateway, "plain") as pod:
            assert ask(gateway.client(gateway.url("plain"))) == TEXT
            status, text = wait_for(
                lambda: found if "Valkey" in (found := probe_ready(gateway))[1] else None, "the gateway reports it"
            )
            assert status == 200, "all other requests follow"
            assert text.startswith(
                "ready, but not for jobs and files: Valkey does not answer: Error 111 connecting to "
            )
            assert "`kubectl get pods,pvc`" in text
            assert store.PASSWORD not in text
            pod.answer = run_job
            with begin_job(gateway, "plain") as job:
                assert job.stdout
                store.start()
                assert job.stdout.read() == "COMPLETED: Paris.\n"
            assert job.returncode == 0
            wait_for(lambda: probe_ready(gateway) == (200, "ready\n"), "the store is reachable")
    store.stop()
