"""A gateway with the variables of HTTP proxies, as the chart sets them."""

from pathlib import Path

import pytest

from tests.integration.gateway_process import namespaced_gateway
from tests.integration.openai_calls import ready_pod
from tests.integration.test_gateway_jobs import ITEM, JOB, JobApiClient, run_job
from tests.integration.webhook_receiver import receiving_webhooks
from tests.kubectl import Kubectl


def test_a_webhook_goes_through_the_proxy_and_nothing_else_does(
    control_plane: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy knows neither the API server nor the pod."""
    with receiving_webhooks() as proxy:
        proxy.may_answer.set()
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/done"))
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1,.svc,.cluster.local")
        with namespaced_gateway(control_plane, tmp_path / "log") as gateway:
            gateway.endpoint("telling")
            api = JobApiClient(gateway, "telling")
            with ready_pod(gateway, "telling") as pod:
                pod.answer = run_job
                refused = api.run({**JOB, "webhook": "http://169.254.169.254/done"})
                job = api.run({**JOB, "webhook": "http://hooks.invalid/done"})
                _, found = proxy.received.get(timeout=20)
                assert (found["id"], found["status"], found["output"]) == (job, "COMPLETED", [ITEM])
                assert api.ask(f"status/{refused}")[1]["status"] == "COMPLETED"
            assert proxy.received.empty(), "the other webhook does not reach the proxy"
