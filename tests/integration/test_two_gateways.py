"""Two gateways on one Valkey: one finishes the other's work, and together they allow no more than one."""

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.canned_pod import Exchange
from tests.integration.gateway_process import Gateway, namespaced_gateway, running_gateway
from tests.integration.job_pods import finish
from tests.integration.openai_calls import ready_pod, send
from tests.integration.valkey_process import ValkeyServer
from tests.integration.webhook_receiver import receiving_webhooks
from tests.kubectl import Kubectl, wait_for

FAILOVER_SECONDS = 20.0
"""A lease of 10 s and a search each second, on a busy machine."""


@pytest.fixture(scope="module")
def gateway(
    control_plane: Kubectl, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    log = tmp_path_factory.mktemp("gateway") / "log"
    with namespaced_gateway(control_plane, log, valkey_url=valkey_server.url) as running:
        yield running


@pytest.fixture(scope="module")
def other(gateway: Gateway, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A second one for the same endpoints; the last test kills it."""
    log = tmp_path_factory.mktemp("other") / "log"
    with running_gateway(gateway.kubectl, gateway.system, log, valkey_url=valkey_server.url) as running:
        yield running


def ask(gateway: Gateway, path: str, content: Any = None) -> tuple[int, Any]:
    status, _, body = send(gateway.port, "POST", f"/v2/{path}", content or b"")
    return status, json.loads(body)


async def run_job(exchange: Exchange) -> None:
    await exchange.read_body()
    await finish(exchange, "out")


def knows(gateway: Gateway, name: str) -> bool:
    return send(gateway.port, "GET", f"/v2/{name}/openai/v1/models")[0] == 200


def test_requests_to_both_count_together(gateway: Gateway, other: Gateway) -> None:
    gateway.endpoint("limited")
    wait_for(lambda: knows(other, "limited"), "the other gateway has it in its directory")
    answers = [ask(each, "limited/purge-queue")[0] for each in (gateway, other, other, gateway)]
    assert answers == [200, 200, 429, 429]


def test_a_webhook_that_a_killed_gateway_was_delivering_is_delivered_by_the_other(
    gateway: Gateway, other: Gateway
) -> None:
    gateway.endpoint("telling")
    wait_for(lambda: knows(other, "telling"), "the other gateway has it in its directory")
    with receiving_webhooks() as receiver, ready_pod(gateway, "telling") as pod:
        pod.answer = run_job
        gateway.process.send_signal(signal.SIGSTOP)  # so that it is the other that delivers
        try:
            _, job = ask(other, "telling/run", {"input": 1, "webhook": receiver.url})
            first = receiver.received.get(timeout=FAILOVER_SECONDS)
            other.process.kill()
        finally:
            gateway.process.send_signal(signal.SIGCONT)
        second = receiver.received.get(timeout=FAILOVER_SECONDS)
        receiver.may_answer.set()
        assert second == first
        assert (second[1]["id"], second[1]["status"], second[1]["output"]) == (job["id"], "COMPLETED", ["out"])
