"""RunPod's job API on a gateway with a real API server and canned pods."""

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from forebay_gateway.jobs.memory_store import MemoryJobStore
from forebay_gateway.jobs.valkey_store import ValkeyJobStore
from tests.fetch import fetch
from tests.integration import canned_pod
from tests.integration.canned_pod import CannedPod, Exchange
from tests.integration.gateway_process import KEY, Gateway, pod_name
from tests.integration.job_pods import finish
from tests.integration.openai_calls import condition, ready_pod, send
from tests.integration.webhook_receiver import receiving_webhooks
from tests.kubectl import wait_for

JOB = {"input": {"prompt": "Hello"}}
ITEM = {"choices": [{"tokens": ["Hi"]}], "usage": {"input": 1, "output": 1}}


LOST = b'HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ncontent-length: 1000\r\n\r\n{"output": "lost"}\n'
"""An answer that ends too early."""


@pytest.fixture(scope="module")
def gateway(keeping_gateway: Gateway) -> Gateway:
    """With each of the two stores."""
    return keeping_gateway


class JobApiClient:
    """RunPod's API of one endpoint."""

    def __init__(self, gateway: Gateway, name: str) -> None:
        self._base = f"http://127.0.0.1:{gateway.port}/v2/{name}"

    def ask(self, path: str, content: Any = None, *, method: str = "", key: str = KEY) -> Any:
        """Status and JSON of a response; POST with content, else GET."""
        data = None if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
        request = urllib.request.Request(f"{self._base}/{path}", data, {"Authorization": f"Bearer {key}"})
        request.method = method or ("GET" if data is None else "POST")
        status, text = fetch(request, 20)
        return status, json.loads(text)

    def run(self, content: Any = JOB) -> str:
        status, returned = self.ask("run", content)
        assert (status, returned["status"]) == (200, "IN_QUEUE")
        return str(returned["id"])

    def state(self, job: str) -> str:
        return str(self.ask(f"status/{job}")[1]["status"])

    def becomes(self, job: str, state: str) -> Any:
        wait_for(lambda: self.state(job) == state, f"{job} is {state}")
        return self.ask(f"status/{job}")[1]


async def run_job(exchange: Exchange) -> None:
    await exchange.read_body()
    await finish(exchange, ITEM)


def hang_in(pod: CannedPod) -> Any:
    async def answer(exchange: Exchange) -> None:
        await exchange.read_body()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n"
        await exchange.send(head + json.dumps({"output": ITEM}).encode() + b"\n")
        await exchange.reader.read()
        pod.left.set()

    return answer


def test_runsync_and_run_answer_like_runpod(gateway: Gateway) -> None:
    gateway.endpoint("answering")
    api = JobApiClient(gateway, "answering")
    with ready_pod(gateway, "answering") as pod:
        pod.answer = run_job
        status, returned = api.ask("runsync", {**JOB, "policy": {"executionTimeout": 7000}})
        assert (status, returned["status"], returned["output"]) == (200, "COMPLETED", [ITEM])
        assert returned.keys() == {"delayTime", "executionTime", "id", "output", "status", "workerId"}
        assert returned["workerId"] == pod_name("answering")
        assert returned["id"].startswith("sync-")
        (request,) = pod.requests
        assert request.head.startswith(b"POST /v2/answering/runsync HTTP/1.1\r\n")
        assert f"Authorization: Bearer {KEY}".encode() in request.head
        assert json.loads(request.body) == {**JOB, "policy": {"executionTimeout": 7000.0}}
        job = api.run()
        assert api.becomes(job, "COMPLETED")["output"] == [ITEM]
        assert api.ask(f"status/{job}", b"")[1] == api.ask(f"status/{job}?ttl=60000")[1]
        metrics = {"scenario": "stream", "stream_index": 0, "input_tokens": 1, "output_tokens": 1}
        assert api.ask(f"stream/{job}")[1] == {"status": "COMPLETED", "stream": [{"metrics": metrics, "output": ITEM}]}
        assert api.ask(f"stream/{job}", b"")[1] == {"status": "COMPLETED", "stream": []}
        assert api.ask(f"cancel/{job}", b"") == (200, {"id": job, "status": "COMPLETED"}), "the job has ended"
        status, health = api.ask("health")
        assert health["jobs"] == {"completed": 2, "failed": 0, "inProgress": 0, "inQueue": 0, "retried": 0}
        workers = {"idle": 1, "initializing": 0, "ready": 1, "running": 0, "throttled": 0, "unhealthy": 0}
        assert health["workers"] == workers
        assert health["store"] in (MemoryJobStore.location, ValkeyJobStore.location)


def test_status_sync_answers_when_the_job_ends(gateway: Gateway, pool: ThreadPoolExecutor) -> None:
    """RunPod's SDK for JavaScript requests this if /runsync has no output yet."""
    gateway.endpoint("waited-for")
    api = JobApiClient(gateway, "waited-for")
    may_end = threading.Event()

    async def answer(exchange: Exchange) -> None:
        await exchange.read_body()
        await asyncio.to_thread(may_end.wait, 20)
        await finish(exchange, ITEM)

    with ready_pod(gateway, "waited-for") as pod:
        pod.answer = answer
        job = api.run()
        api.becomes(job, "IN_PROGRESS")
        assert api.ask(f"status-sync/{job}?wait=1000")[1]["status"] == "IN_PROGRESS"
        waiting = pool.submit(api.ask, f"status-sync/{job}?wait=20000")
        may_end.set()
        status, returned = waiting.result()
        assert (status, returned["status"], returned["output"]) == (200, "COMPLETED", [ITEM])
        assert api.ask(f"status-sync/{job}", b"") == (200, returned), "immediately, and by POST too"
    assert api.ask("status-sync/no-such-job")[0] == 404
    assert api.ask(f"status-sync/{job}?wait=5")[0] == 400


def test_a_job_starts_an_endpoint_at_zero_and_waits_in_the_queue(gateway: Gateway) -> None:
    gateway.endpoint("starting")
    api = JobApiClient(gateway, "starting")
    low = api.run({**JOB, "policy": {"lowPriority": True}})
    assert api.ask("health")[1]["jobs"]["inQueue"] == 1
    assert (gateway.replicas("starting"), gateway.held("starting").get("queued", 0)) == (0, 0)
    job = api.run()
    wait_for(lambda: gateway.replicas("starting") == 1, "the endpoint is started")
    wait_for(lambda: gateway.held("starting")["queued"] == 1, "one job requires a pod")
    assert gateway.held("starting")["jobs"] == {"queued": 2, "running": 0}
    with CannedPod(ops_port=gateway.pod_ops_port) as pod:
        pod.answer = run_job
        gateway.pods("starting", pod, ready=False)  # the gateway asks it itself
        api.becomes(job, "COMPLETED")
        gateway.pods("starting", pod)
        api.becomes(low, "COMPLETED")
    wait_for(lambda: gateway.held("starting")["queued"] == 0, "no job requires a pod any more")
    assert (gateway.held("starting")["held"], gateway.held("starting")["begun"]) == (0, 2)


def test_cancelling_ends_the_generation_and_purging_removes_queued_jobs(gateway: Gateway) -> None:
    gateway.endpoint("cancelling", env=[{"name": "MAX_CONCURRENCY", "value": "1"}])
    api = JobApiClient(gateway, "cancelling")
    with ready_pod(gateway, "cancelling") as pod:
        pod.answer = hang_in(pod)
        job = api.run()
        api.becomes(job, "IN_PROGRESS")
        wait_for(lambda: api.ask(f"stream/{job}")[1]["stream"] or None, "an item of the output")
        queued = [api.run(), api.run()]
        assert [api.state(each) for each in queued] == ["IN_QUEUE", "IN_QUEUE"], "the pod runs one job at a time"
        assert api.ask(f"retry/{job}", b"")[0] == 400
        assert api.ask("purge-queue", b"") == (200, {"removed": 2, "status": "completed"})
        assert [api.ask(f"status/{each}")[0] for each in queued] == [404, 404]
        assert api.state(job) == "IN_PROGRESS"
        began = time.monotonic()
        assert api.ask(f"cancel/{job}", b"") == (200, {"id": job, "status": "CANCELLED"})
        assert pod.left.wait(5)
        assert time.monotonic() - began < 1, "within a second"
        assert api.ask(f"cancel/{job}", b"") == (200, {"id": job, "status": "CANCELLED"}), (
            "a second cancellation is no error"
        )
        assert api.ask("health")[1]["jobs"]["inProgress"] == 0


def test_a_gateway_claims_no_more_jobs_than_the_pod_accepts(gateway: Gateway) -> None:
    gateway.endpoint("narrow", env=[{"name": "MAX_CONCURRENCY", "value": "2"}])
    api = JobApiClient(gateway, "narrow")
    jobs = [api.run() for _ in range(6)]
    with CannedPod() as pod:
        pod.answer = hang_in(pod)
        gateway.pods("narrow", pod)
        api.becomes(jobs[1], "IN_PROGRESS")
        assert [api.state(job) for job in jobs] == ["IN_PROGRESS"] * 2 + ["IN_QUEUE"] * 4, "in their order"
        counts = api.ask("health")[1]["jobs"]
        assert (counts["inProgress"], counts["inQueue"]) == (2, 4)
        wait_for(lambda: gateway.held("narrow")["queued"] == 4, "the jobs are counted in the report")
        api.ask(f"cancel/{jobs[0]}", b"")
        api.becomes(jobs[2], "IN_PROGRESS")


def test_a_pod_that_is_removed_loses_no_job(gateway: Gateway) -> None:
    gateway.endpoint("moving")
    api = JobApiClient(gateway, "moving")
    broken = asyncio.Event()

    async def break_once(exchange: Exchange) -> None:
        if broken.is_set():
            await run_job(exchange)
            return
        broken.set()
        await exchange.read_body()
        await exchange.send(LOST)

    with ready_pod(gateway, "moving") as pod:
        pod.answer = break_once
        status, returned = api.ask("runsync", JOB)
        assert (status, returned["output"], len(pod.requests)) == (200, [ITEM], 2)


def test_every_job_ends_once_with_its_own_output_despite_pod_failures(
    gateway: Gateway, pool: ThreadPoolExecutor
) -> None:
    """The pods interrupt the output of every twentieth of 200 jobs twice."""
    gateway.endpoint("breaking")
    api = JobApiClient(gateway, "breaking")
    begun: Counter[int] = Counter()

    async def echo(exchange: Exchange) -> None:
        number = json.loads(await exchange.read_body())["input"]["number"]
        begun[number] += 1
        if number % 20 == 0 and begun[number] <= 2:
            await exchange.send(LOST)
        else:
            await finish(exchange, {"number": number}, "end")

    with ready_pod(gateway, "breaking") as first, CannedPod() as second:
        gateway.pods("breaking", first, second)
        first.answer = second.answer = echo
        jobs = list(pool.map(lambda number: api.run({"input": {"number": number}}), range(200)))
        wait_for(lambda: api.ask("health")[1]["jobs"]["completed"] == 200, "all jobs are done", timeout=60)
        returned = list(pool.map(lambda job: api.ask(f"status/{job}")[1], jobs))
        assert [each["output"] for each in returned] == [[{"number": number}, "end"] for number in range(200)]
        assert {each["status"] for each in returned} == {"COMPLETED"}
        assert [begun[number] for number in range(0, 200, 20)] == [3] * 10
        assert api.ask("health")[1]["jobs"] | {"completed": 0} == dict.fromkeys(
            ("completed", "failed", "inProgress", "inQueue", "retried"), 0
        )


def test_a_failed_job_can_be_retried_and_a_slow_one_times_out(gateway: Gateway) -> None:
    gateway.endpoint("failing")
    api = JobApiClient(gateway, "failing")

    async def fail(exchange: Exchange) -> None:
        await exchange.read_body()
        await finish(exchange, status="FAILED", error="no such model")

    with ready_pod(gateway, "failing") as pod:
        pod.answer = fail
        job = api.run()
        assert api.becomes(job, "FAILED")["error"] == "no such model"
        assert api.ask(f"stream/{job}")[1] == {"status": "FAILED", "stream": [], "error": "no such model"}
        pod.answer = run_job
        assert api.ask(f"retry/{job}", b"") == (200, {"id": job, "status": "IN_QUEUE"})
        api.becomes(job, "COMPLETED")
        assert api.ask("health")[1]["jobs"]["retried"] == 1
        pod.answer = hang_in(pod)
        status, returned = api.ask("runsync?wait=1000", {**JOB, "policy": {"executionTimeout": 5000}})
        assert (status, returned["status"]) == (200, "IN_PROGRESS"), "the client may request it later"
        assert "5 s" in api.becomes(returned["id"], "TIMED_OUT")["error"]


def test_health_counts_throttled_and_unhealthy_pods(gateway: Gateway) -> None:
    gateway.endpoint("lacking", replicas=2)
    api = JobApiClient(gateway, "lacking")
    good = {"idle": 0, "initializing": 0, "ready": 0, "running": 0, "throttled": 0, "unhealthy": 0}

    def become(ready: str, reason: str, message: str = "") -> None:
        gateway.status("lacking", replicas=2, conditions=[condition("Ready", ready, reason, message)])

    def wait_for_workers(**workers: int) -> None:
        wait_for(lambda: api.ask("health")[1]["workers"] == good | workers, f"{workers} are reported")

    become("False", "GPUsTaken")
    wait_for_workers(throttled=2)
    with CannedPod(ready=False) as pod:
        gateway.pods("lacking", pod, ready=False)
        wait_for_workers(throttled=1, initializing=1)
        become("False", "ServerFailed")
        wait_for_workers(unhealthy=2)
        gateway.pods("lacking", pod)
        become("True", "Degraded", "1 of 2 replicas ready: GPUsTaken: no node is free")
        wait_for_workers(throttled=1, ready=1, idle=1)


def test_a_webhook_is_delivered_when_the_job_ends(gateway: Gateway) -> None:
    gateway.endpoint("telling")
    api = JobApiClient(gateway, "telling")
    with receiving_webhooks() as receiver, ready_pod(gateway, "telling") as pod:
        receiver.may_answer.set()
        pod.answer = run_job
        job = api.run({**JOB, "webhook": receiver.url})
        _, found = receiver.received.get(timeout=20)
        assert found == api.ask(f"status/{job}")[1]
        assert (found["id"], found["status"], found["output"]) == (job, "COMPLETED", [ITEM])


def test_a_server_without_json_lines_runs_jobs_too(gateway: Gateway) -> None:
    gateway.endpoint("older")

    async def answer_whole(exchange: Exchange) -> None:
        await exchange.read_body()
        await canned_pod.reply(exchange, 200, {"id": "sync-1", "output": [ITEM], "status": "COMPLETED"})

    with ready_pod(gateway, "older") as pod:
        pod.answer = answer_whole
        status, returned = JobApiClient(gateway, "older").ask("runsync", JOB)
        assert (status, returned["status"], returned["output"]) == (200, "COMPLETED", [ITEM])


def test_a_job_stops_when_its_time_to_live_ends(gateway: Gateway) -> None:
    gateway.endpoint("dying")
    api = JobApiClient(gateway, "dying")
    with ready_pod(gateway, "dying") as pod:
        pod.answer = hang_in(pod)
        job = api.run({**JOB, "policy": {"ttl": 10_000}})
        api.becomes(job, "IN_PROGRESS")
        assert pod.left.wait(15), "the generation ends"
        assert api.ask(f"status/{job}")[0] == 404
        assert api.ask("health")[1]["jobs"]["inProgress"] == 0


@pytest.mark.parametrize(
    ("path", "content", "status", "said"),
    [
        ("run", b"{", 400, "not JSON"),
        ("run", {"no": "input"}, 400, "input"),
        ("runsync?wait=5", JOB, 400, "wait"),
        ("run", b'{"input": "' + b"x" * 10_000_001 + b'"}', 413, "10 MB"),
        ("run", {**JOB, "s3Config": {"bucketName": "x"}}, 400, "s3Config"),
        ("status/nothing", None, 404, "no such job"),
        ("cancel/nothing", b"", 404, "no such job"),
        ("retry/nothing", b"", 404, "no such job"),
        ("stream/nothing", None, 404, "no such job"),
        ("status", None, 404, "/status/ID"),
        ("stream/a:b", None, 404, "/stream/ID"),
        ("health/x", None, 404, "/health"),
        ("run", None, 405, "POST"),
    ],
)
def test_invalid_input_gets_runpods_error_format_and_starts_no_pod(
    gateway: Gateway, path: str, content: Any, status: int, said: str
) -> None:
    if gateway.kubectl.get("iep", "refusing") is None:
        gateway.endpoint("refusing")
    found, returned = JobApiClient(gateway, "refusing").ask(path, content)
    assert found == status
    assert said in returned["error"]
    assert (gateway.replicas("refusing"), gateway.held("refusing")) == (0, {})


def test_an_unsupported_method_gets_the_list_of_supported_ones(gateway: Gateway) -> None:
    gateway.endpoint("methods")
    expected = {
        ("GET", "run"): (405, "POST"),
        ("HEAD", "stream/x"): (405, "GET, POST"),
        ("HEAD", "health"): (200, None),
        ("PUT", "openai/v1/files"): (405, "GET, POST"),
        ("HEAD", "openai/v1/files"): (200, None),
        ("PATCH", "openai/v1/files/x"): (405, "DELETE, GET"),
        ("GET", "openai/v1/batches/x/cancel"): (405, "POST"),
        ("GET", "openai/v1/batches/x/y"): (404, None),
    }
    for (method, path), (status, allowed) in expected.items():
        found, headers, body = send(gateway.port, method, f"/v2/{gateway.prefix}methods/{path}")
        assert (found, headers.get("allow"), bool(body)) == (status, allowed, method != "HEAD"), path


def test_a_job_is_visible_only_to_keys_of_its_endpoint(gateway: Gateway) -> None:
    other = "fb_the-key-of-another-endpoint"
    gateway.endpoint("mine")
    gateway.endpoint("theirs", keys=[other])
    job = JobApiClient(gateway, "mine").run({**JOB, "policy": {"lowPriority": True}})
    assert JobApiClient(gateway, "mine").ask(f"status/{job}") == (200, {"id": job, "status": "IN_QUEUE"})
    status, returned = JobApiClient(gateway, "mine").ask(f"status/{job}", key="fb_wrong-key-altogether")
    assert (status, returned) == (401, {"error": "The API key is not valid for this endpoint."})
    assert JobApiClient(gateway, "mine").ask(f"status/{job}", key=other)[0] == 404
    assert JobApiClient(gateway, "theirs").ask(f"status/{job}", key=other)[0] == 404


def test_requests_above_the_limit_get_429_with_retry_after(gateway: Gateway) -> None:
    gateway.endpoint("limited")
    api = JobApiClient(gateway, "limited")
    answers = [api.ask("purge-queue", b"") for _ in range(3)]
    assert [status for status, _ in answers] == [200, 200, 429]
    assert "Too many" in answers[2][1]["error"]
