"""RunPod's own SDK against the gateway, with the real model at zero; the shapes are those of RunPod's documentation."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from cluster.pins import ROOT
from tests.e2e.forebay import PROGRAMS, SYSTEM, Clients, install_chart, read_key
from tests.endpoints import reason_is
from tests.kubectl import Kubectl, wait_for

NUMBER = int | float
SYNC = {"delayTime": NUMBER, "executionTime": NUMBER, "id": str, "output": list, "status": str}
HEALTH = {
    "jobs": dict.fromkeys(("completed", "failed", "inProgress", "inQueue", "retried"), int),
    "workers": dict.fromkeys(("idle", "initializing", "ready", "running"), int),
    "store": str,
}


def shaped(value: Any, shape: Any) -> bool:
    """Whether an answer has the fields of a shape, of these types, and no others."""
    if not isinstance(shape, dict):
        return isinstance(value, shape)
    return value.keys() == shape.keys() and all(shaped(value[name], shape[name]) for name in shape)


@pytest.fixture
def one_gateway(installed: Kubectl) -> Iterator[Kubectl]:
    """Jobs live in the memory of one gateway."""
    install_chart(installed, "--set=gateway.replicas=1")
    installed.within(SYSTEM).run("rollout", "status", "deployment/forebay-gateway", "--timeout=120s")
    yield installed
    install_chart(installed)


def test_runpods_sdk_does_jobs_on_an_endpoint_that_was_at_zero(
    one_gateway: Kubectl, kubectl: Kubectl, clients: Clients
) -> None:
    manifest = yaml.safe_load((ROOT / "examples/smollm2.yaml").read_text())
    manifest["metadata"]["name"] = "jobs"
    manifest["spec"] |= {"replicas": 0, "scaling": {"idleTimeout": "2m"}}
    manifest["spec"]["env"] = [{"name": "OPENAI_SERVED_MODEL_NAME_OVERRIDE", "value": "smollm2"}]
    kubectl.apply(manifest)
    wait_for(reason_is(kubectl, "Idle", "jobs"), "it is idle", timeout=60)
    base, name = f"http://forebay-gateway.{SYSTEM}.svc/v2", f"{kubectl.namespace}.jobs"
    printed = clients.run_inside(
        PROGRAMS / "jobs.py", base, name, read_key(kubectl, "jobs"), "smollm2", env={"HOME": "/tmp"}
    )
    told = json.loads(printed)
    print(json.dumps(told, indent=1))
    tokens = {"choices": list, "usage": {"input": int, "output": int}}
    assert all(shaped(item, tokens) for item in told["sync"])
    assert "Paris" in told["sync"][0]["choices"][0]["tokens"][0]
    assert shaped(told["raw sync"], SYNC)
    assert told["raw sync"]["id"].startswith("sync-")
    assert shaped(told["raw status"], SYNC)
    assert (told["status"], told["raw status"]["output"]) == ("COMPLETED", told["output"])
    assert "Paris" in told["output"][0]["choices"][0]["message"]["content"]
    assert shaped(told["raw run"], {"id": str, "status": str})
    assert told["raw run"]["status"] == "IN_QUEUE"
    assert [len(item["choices"][0]["tokens"]) for item in told["stream"]][:2] == [1, 3]
    assert shaped(told["raw stream"], {"status": str, "stream": list})
    assert all(shaped(item, {"metrics": dict, "output": dict}) for item in told["raw stream"]["stream"])
    assert (told["cancel"]["status"], told["cancelled"]) == ("CANCELLED", "CANCELLED")
    assert told["cancel seconds"] < 2
    assert told["purge"] == {"removed": 0, "status": "completed"}
    assert shaped(told["health"], HEALTH)
    assert told["health"]["jobs"]["failed"] == 0
    assert told["wrong key"].startswith("401 Unauthorized")
    kubectl.delete("iep", "jobs")
