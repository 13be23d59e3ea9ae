"""RunPod's job API on kind, with two gateways and the chart's Valkey: its own SDK with the real model at zero, whose
shapes are those of RunPod's documentation; and jobs and their webhooks while each part is killed."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from cluster.images import images
from cluster.pins import ROOT
from tests.e2e.canned import canned
from tests.e2e.claims import make_volume
from tests.e2e.forebay import PROGRAMS, SYSTEM, Clients, install_chart, read_key, wait_for_key, wait_ready
from tests.e2e.scale_to_zero import SERVED, TEXT, make_canned
from tests.e2e.standins import run_helper
from tests.endpoints import reason_is
from tests.kubectl import Kubectl, wait_for

pytestmark = pytest.mark.kills

VALKEY = "forebay-valkey"

NUMBER = int | float
SYNC = {"delayTime": NUMBER, "executionTime": NUMBER, "id": str, "output": list, "status": str, "workerId": str}
METRICS = {"scenario": str, "stream_index": int, "input_tokens": int, "output_tokens": int}
HEALTH = {
    "jobs": dict.fromkeys(("completed", "failed", "inProgress", "inQueue", "retried"), int),
    "workers": dict.fromkeys(("idle", "initializing", "ready", "running", "throttled", "unhealthy"), int),
    "store": str,
}


def shaped(value: Any, shape: Any) -> bool:
    """Whether an answer has the fields of a shape, of these types, and no others."""
    if not isinstance(shape, dict):
        return isinstance(value, shape)
    return value.keys() == shape.keys() and all(shaped(value[name], shape[name]) for name in shape)


VOLUME = "forebay-e2e-valkey"


def install_with_valkey(kubectl: Kubectl, *settings: str) -> None:
    """Install the chart with its own Valkey on a volume, more settings of it, and webhooks in the cluster."""
    repository, tag = images()["valkey"].rsplit(":", 1)
    image = "image.registry=", f"image.repository={repository}", f"image.tag={tag}"
    always = "create=true", *image, f"storageClassName={VOLUME}", "storage=1Gi"
    receivers = "--set=gateway.settings.webhook_namespaces=own"
    install_chart(kubectl, *(f"--set=valkey.{each}" for each in (*always, *settings)), receivers)


@pytest.fixture(scope="module")
def queue(installed: Kubectl) -> Iterator[Kubectl]:
    """The chart with two gateways and its own Valkey, whose password the operator creates."""
    system = installed.within(SYSTEM)
    make_volume(system, VOLUME, "ReadWriteOnce")
    system.delete("secret", VALKEY)
    install_with_valkey(installed)
    system.run("rollout", "status", "deployment/forebay-gateway", "--timeout=300s")
    yield installed
    install_chart(installed)
    system.run("delete", "pvc", f"data-{VALKEY}-0", "--timeout=180s")
    system.run("delete", "pv", VOLUME, "--timeout=180s")


def test_runpods_sdk_runs_jobs_on_an_endpoint_at_zero(queue: Kubectl, kubectl: Kubectl, clients: Clients) -> None:
    manifest = yaml.safe_load((ROOT / "examples/smollm2.yaml").read_text())
    manifest["metadata"]["name"] = "jobs"
    manifest["spec"] |= {"replicas": 0, "scaling": {"idleTimeout": "2m"}}
    manifest["spec"]["env"] = [{"name": "OPENAI_SERVED_MODEL_NAME_OVERRIDE", "value": "smollm2"}]
    kubectl.apply(manifest)
    wait_for(reason_is(kubectl, "Idle", "jobs"), "the endpoint is idle", timeout=180)
    base, name = f"http://forebay-gateway.{SYSTEM}.svc/v2", f"{kubectl.namespace}.jobs"
    printed = clients.run_inside(
        PROGRAMS / "jobs.py", base, name, read_key(kubectl, "jobs"), "smollm2", env={"HOME": "/tmp"}
    )
    results = json.loads(printed)
    print(json.dumps(results, indent=1))
    tokens = {"choices": list, "usage": {"input": int, "output": int}}
    assert all(shaped(item, tokens) for item in results["sync"])
    assert "Paris" in results["sync"][0]["choices"][0]["tokens"][0]
    assert shaped(results["raw sync"], SYNC)
    assert results["raw sync"]["id"].startswith("sync-")
    assert results["raw sync"]["workerId"].startswith("jobs-"), "the name of its pod"
    assert shaped(results["raw status"], SYNC)
    assert (results["status"], results["raw status"]["output"]) == ("COMPLETED", results["output"])
    assert "Paris" in results["output"][0]["choices"][0]["message"]["content"]
    assert shaped(results["raw run"], {"id": str, "status": str})
    assert results["raw run"]["status"] == "IN_QUEUE"
    assert [len(item["choices"][0]["tokens"]) for item in results["stream"]][:2] == [1, 3]
    assert shaped(results["raw stream"], {"status": str, "stream": list})
    assert all(shaped(item, {"metrics": METRICS, "output": tokens}) for item in results["raw stream"]["stream"])
    assert (results["cancel"]["status"], results["cancelled"]) == ("CANCELLED", "CANCELLED")
    assert results["cancel seconds"] < 2
    assert results["purge"] == {"removed": 0, "status": "completed"}
    assert shaped(results["health"], HEALTH)
    assert results["health"]["jobs"]["failed"] == 0
    assert results["wrong key"].startswith("401 Unauthorized")
    check_async(results["async"])
    check_javascript(clients, base, name, read_key(kubectl, "jobs"))
    check_batch(clients, f"{base}/{name}/openai/v1", read_key(kubectl, "jobs"))
    kubectl.delete("iep", "jobs")


def check_async(results: dict[str, Any]) -> None:
    """The asynchronous half of the SDK."""
    assert results["status"] == results["cancel"]["status"] == "COMPLETED"
    assert "Paris" in results["output"][0]["choices"][0]["tokens"][0]
    assert [len(item["choices"][0]["tokens"]) for item in results["stream"]][:2] == [1, 3]


def check_javascript(clients: Clients, base: str, name: str, key: str) -> None:
    """RunPod's SDK for JavaScript."""
    results = json.loads(clients.run_inside(PROGRAMS / "jobs.mjs", base, name, key).splitlines()[-1])
    print(json.dumps(results, indent=1))
    for each in (results["sync"], results["status"]):
        assert (each["status"], each["completed"], each["succeeded"]) == ("COMPLETED", True, True)
        assert "Paris" in each["output"][0]["choices"][0]["tokens"][0]
    assert results["waited"]["id"].startswith("sync-")
    assert results["run"]["status"] == "IN_QUEUE"
    assert "Paris" in results["stream"][0]["output"]["choices"][0]["tokens"][0]
    assert results["cancel"] == {"id": results["run"]["id"], "status": "COMPLETED"}
    assert results["purge"] == {"removed": 0, "status": "completed"}
    assert shaped(results["health"], HEALTH)


def check_batch(clients: Clients, url: str, key: str) -> None:
    """OpenAI's Batch API of the endpoint, by the official client."""
    results = json.loads(clients.run_inside(PROGRAMS / "batch.py", url, key, "smollm2"))
    print(json.dumps(results, indent=1))
    assert results["batch"]["status"] == "completed"
    assert results["batch"]["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    answers = {line["custom_id"]: line["response"]["body"] for line in results["output"]}
    assert answers.keys() == {"chat", "again"}
    assert "Paris" in answers["chat"]["choices"][0]["message"]["content"]
    (failed,) = results["errors"]
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("wrong", 400)
    assert failed["response"]["body"]["error"]["param"] == "messages"
    assert results["listed"] == [results["batch"]["id"]]
    assert results["deleted"] == [True] * 3


def test_an_upgrade_keeps_the_password_and_the_jobs(queue: Kubectl, kubectl: Kubectl, clients: Clients) -> None:
    kubectl.apply(canned("waiting", replicas=0, scaling={"idleTimeout": "10m"}, env=[SERVED]))
    wait_for(reason_is(kubectl, "Idle", "waiting"), "the endpoint is idle", timeout=60)
    url, key = f"http://forebay-gateway.{SYSTEM}.svc/v2/{kubectl.namespace}.waiting", read_key(kubectl, "waiting")
    wait_for_key(clients, f"{url}/openai/v1", key)
    starts_no_pod = {"policy": {"lowPriority": True}}
    job = ask_job_api(clients, f"{url}/run", key, {"input": {"prompt": "Hello"}, **starts_no_pod})
    system = queue.within(SYSTEM)
    before, pod = system.get("secret", VALKEY), system.get("pod", f"{VALKEY}-0")
    install_with_valkey(queue, "maxMemory=300mb")
    after, other = system.get("secret", VALKEY), system.get("pod", f"{VALKEY}-0")
    assert before
    assert after
    assert after["data"] == before["data"]
    assert pod
    assert other
    assert other["metadata"]["uid"] != pod["metadata"]["uid"], "Valkey has the new settings"
    kept = ask_job_api(clients, f"{url}/status/{job['id']}", key)
    assert (kept["id"], kept["status"]) == (job["id"], "IN_QUEUE")
    kubectl.delete("iep", "waiting")


def ask_job_api(clients: Clients, url: str, key: str, content: Any = None) -> Any:
    """The JSON of a response; POST with content, else GET."""
    return json.loads(
        clients.run_inside(PROGRAMS / "job_api.py", url, key, *([json.dumps(content)] if content else []))
    )


def delivered_states(kubectl: Kubectl) -> dict[str, str]:
    """The states that the receiver of webhooks got, by job ID."""
    lines = map(json.loads, kubectl.run("logs", "receiver").splitlines())
    return {line["id"]: line["status"] for line in lines}


def test_no_job_is_lost_while_each_part_is_killed(queue: Kubectl, kubectl: Kubectl, clients: Clients) -> None:
    scaling, env = {"minReplicas": 2, "maxReplicas": 2}, [{"name": "MAX_CONCURRENCY", "value": "2"}]
    make_canned(kubectl, "queued", scaling, 0.02, replicas=2, env=env)
    wait_ready(kubectl, "queued")
    url = f"http://forebay-gateway.{SYSTEM}.svc/v2/{kubectl.namespace}.queued"
    wait_for_key(clients, f"{url}/openai/v1", read_key(kubectl, "queued"))
    system = kubectl.within(SYSTEM)
    with run_helper(kubectl, "receiver", ports=(8080,)) as receiver, ThreadPoolExecutor(1) as beside:
        arguments = url, read_key(kubectl, "queued"), "150", TEXT, f"http://{receiver}:8080/done"
        doing = beside.submit(clients.run_inside, PROGRAMS / "queue.py", *arguments)
        for where, label, kind in (
            (system, "app.kubernetes.io/name=forebay-operator", "deployment/forebay"),
            (system, "app.kubernetes.io/name=forebay-gateway", "deployment/forebay-gateway"),
            (kubectl, "forebay.dev/endpoint=queued", "deployment/queued"),
            (system, f"app.kubernetes.io/name={VALKEY}", f"statefulset/{VALKEY}"),
        ):
            assert not doing.done(), f"the jobs were over before {label} was killed: {doing.result()}"
            victim = where.list("pods", label)[0]["metadata"]["name"]
            where.run("delete", "pod", victim, "--force", "--grace-period=0")
            where.run("rollout", "status", kind, "--timeout=180s")
        results = json.loads(doing.result(timeout=300))
        wait_for(lambda: len(delivered_states(kubectl)) >= 150, "every webhook is delivered")
        assert set(delivered_states(kubectl).values()) == {"COMPLETED"}
    print(json.dumps(results))
    assert results == {"accepted": 150, "states": {"COMPLETED": 150}, "right": 150, "changed": 0}
    kubectl.delete("iep", "queued")
