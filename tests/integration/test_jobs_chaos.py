"""Jobs in Valkey while gateways, pods, the operator and Valkey itself are killed and started again at random. No job is
lost or ends twice, each has its own output, and each webhook gets the end."""

import asyncio
import base64
import json
import random
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from forebay_gateway.event_waiting import wait_for_event
from forebay_gateway.jobs.scripts import connect_valkey
from tests.endpoints import endpoint
from tests.integration.canned_pod import CannedPod, Exchange
from tests.integration.gateway_process import Gateway, running_gateway
from tests.integration.openai_calls import send
from tests.integration.operator_process import give_access, running_operator
from tests.integration.valkey_process import ValkeyServer
from tests.kubectl import Kubectl, wait_for
from tests.waiting import until

NAME = "chaos"
CLIENTS = 16
PODS = 3
POD_CONCURRENCY = 8
KILLS = ("gateway", "gateway by SIGTERM", "pod", "pod", "operator", "valkey")
WEBHOOK_SECONDS = 60.0
"""For the last webhooks: a lease, and two tries 10 s apart where one's answer was lost."""

FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}


async def run_job(exchange: Exchange) -> None:
    """As long as a short generation, in three items; every fiftieth job fails on purpose."""
    number = json.loads(await exchange.read_body())["input"]["number"]
    await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n")
    for item in (number, "middle", "end"):
        await exchange.send(json.dumps({"output": item}).encode() + b"\n")
        await asyncio.sleep(random.uniform(0, 0.1))
    end = {"status": "FAILED", "error": "so it is"} if number % 50 == 49 else {"status": "COMPLETED"}
    await exchange.send(json.dumps(end).encode() + b"\n")


class Webhooks:
    """Receives webhooks. Keeps the content for each job, by ID, and the number of repeated deliveries."""

    def __init__(self) -> None:
        self.received: dict[str, Any] = {}
        self.again = 0
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """As long as a short handler, so that gateways die in this time."""
        content = await request.json()
        await asyncio.sleep(random.uniform(0, 0.1))
        self.again += content["id"] in self.received
        assert self.received.setdefault(content["id"], content) == content
        return web.Response()

    async def listen(self, stack: AsyncExitStack) -> None:
        app = web.Application()
        app.router.add_post("/webhook", self.take)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhook"


@dataclass
class Scene:
    """An operator, two gateways, three pods and a Valkey, each of which may be killed. They log in one folder.

    Attributes:
        access: the operator's.
        key: the endpoint's.
    """

    kubectl: Kubectl
    access: Kubectl
    system: str
    folder: Path
    valkey: ValkeyServer
    key: str = ""
    operator: tuple[subprocess.Popen[bytes], ExitStack] | None = None
    gateways: dict[int, tuple[Gateway, ExitStack]] = field(default_factory=dict)
    pods: list[CannedPod] = field(default_factory=list)
    webhooks: Webhooks = field(default_factory=Webhooks)
    killed: Counter[str] = field(default_factory=Counter)

    def start_gateway(self, number: int) -> None:
        stack = ExitStack()
        log = self.folder / f"gateway-{number}"
        found = stack.enter_context(
            running_gateway(self.kubectl, self.system, log, digest_key=None, valkey_url=self.valkey.url)
        )
        self.gateways[number] = found, stack

    def start_operator(self) -> None:
        stack = ExitStack()
        options = "--namespace", self.system, "--watch-namespaces", self.kubectl.namespace
        running = running_operator(self.access, self.folder / "operator", *options, "--gateway-service=forebay-gateway")
        self.operator = stack.enter_context(running), stack

    def start_pod(self, number: int, port: int = 0) -> CannedPod:
        pod = CannedPod(port)
        pod.answer = run_job
        pod.__enter__()
        self.pods[number : number + 1] = [pod]
        return pod

    def disturb(self, what: str) -> None:
        """Kill one of them, and start it again."""
        number = random.randrange(PODS if what == "pod" else 2)
        if what == "pod":
            port = self.pods[number].port
            self.pods[number].__exit__(None, None, None)
            time.sleep(random.uniform(0, 1))  # how long it is away
            self.start_pod(number, port)
        elif what == "operator":
            assert self.operator
            process, stack = self.operator
            process.kill()
            process.wait()
            stack.close()
            self.start_operator()
        elif what == "valkey":
            self.valkey.kill()
            time.sleep(random.uniform(0, 1))
            self.valkey.start()
        else:
            gateway, stack = self.gateways.pop(number)
            gateway.process.send_signal(signal.SIGTERM if "SIGTERM" in what else signal.SIGKILL)
            gateway.process.wait()
            stack.close()
            self.start_gateway(number)
        self.killed[what] += 1

    def stop(self) -> None:
        """End all of them."""
        for _, stack in [*self.gateways.values(), *([self.operator] if self.operator else [])]:
            stack.close()
        for pod in self.pods:
            pod.__exit__(None, None, None)
        self.valkey.stop()
        # else other tests' gateways would take its ports for claimed
        self.kubectl.run("delete", "iep,endpointslice", "--all", "--wait=false")

    async def ask(self, session: aiohttp.ClientSession, path: str, content: Any = None) -> Any:
        """The response of a live gateway; None without one."""
        standing = list(self.gateways.values())
        if not standing:
            await asyncio.sleep(0.1)
            return None
        url = f"http://127.0.0.1:{random.choice(standing)[0].port}/v2/{NAME}/{path}"
        try:
            async with session.request("POST" if content else "GET", url, json=content) as answer:
                return await answer.json() if answer.status == 200 else None
        except (OSError, aiohttp.ClientError):
            await asyncio.sleep(0.1)
            return None


async def keep_killing(scene: Scene, ended: asyncio.Event) -> None:
    """Kill each kind in turn, in any order, once at least."""
    while not ended.is_set():
        for what in random.sample(KILLS, len(KILLS)):
            await asyncio.to_thread(scene.disturb, what)
            await wait_for_event(ended, random.uniform(0, 1))


async def submit_all(scene: Scene, session: aiohttp.ClientSession, count: int) -> dict[str, int]:
    """Have so many jobs accepted; their numbers by their IDs."""
    numbers, accepted = iter(range(count)), {}

    async def submit() -> None:
        for number in numbers:
            answer = None
            while not answer:  # as a client would
                answer = await scene.ask(session, "run", {"input": {"number": number}, "webhook": scene.webhooks.url})
            accepted[answer["id"]] = number

    await asyncio.gather(*(submit() for _ in range(CLIENTS)))
    return accepted


async def read_all(scene: Scene, session: aiohttp.ClientSession, jobs: dict[str, int]) -> dict[str, Any]:
    """Poll each job until it ends; returns its last /status."""
    left, results = list(jobs), {}

    async def read() -> None:
        while left:
            job = left.pop()
            found = await scene.ask(session, f"status/{job}")
            if found and found["status"] in FINAL:
                results[job] = found
            else:
                left.insert(0, job)
                await asyncio.sleep(0.05)

    async with asyncio.timeout(900):
        await asyncio.gather(*(read() for _ in range(CLIENTS)))
    return results


async def check(scene: Scene, count: int) -> None:
    headers = {"Authorization": f"Bearer {scene.key}"}
    timeout = aiohttp.ClientTimeout(total=30)
    connector = aiohttp.TCPConnector(force_close=True)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector)
        )
        await scene.webhooks.listen(stack)
        began, ended = time.monotonic(), asyncio.Event()
        killing = asyncio.create_task(keep_killing(scene, ended))
        try:
            accepted = await submit_all(scene, session, count)
            results = await read_all(scene, session, accepted)
        finally:
            ended.set()
            await killing
        seconds = time.monotonic() - began
        client = connect_valkey(scene.valkey.url)
        stack.push_async_callback(client.aclose)
        kept = {job.removeprefix("forebay:job:") async for job in client.scan_iter("forebay:job:*-f1", count=1000)}
        unknown = dict.fromkeys(kept - set(accepted), -1)  # accepted, but the answer was lost
        await read_all(scene, session, unknown)
        again = await read_all(scene, session, accepted)
        await until(lambda: scene.webhooks.received.keys() >= kept, WEBHOOK_SECONDS)
        done = await client.hgetall(f"forebay:done:{scene.kubectl.namespace}/{NAME}")
        left = {what: await client.hgetall(f"forebay:{what}") for what in ("queued", "waiting", "running")}
    states = Counter(found["status"] for found in results.values())
    print(
        f"\n{len(accepted)} jobs accepted and over in {seconds:.0f} s: {dict(states)}; {len(unknown)} more whose "
        f"answer was lost; lost: {len(accepted) - len(results)}, changed after their end: "
        f"{sum(results[job] != again[job] for job in results)}; webhooks received: {len(scene.webhooks.received)}, "
        f"received again: {scene.webhooks.again}; killed meanwhile: {dict(scene.killed)}"
    )
    assert (len(accepted), len(results), again) == (count, count, results)
    assert {job: scene.webhooks.received[job] for job in accepted} == results
    assert states == {"COMPLETED": count - count // 50, "FAILED": count // 50}
    for job, number in accepted.items():
        if number % 50 == 49:
            assert results[job]["error"] == "so it is"
        else:
            assert results[job]["output"] == [number, "middle", "end"]
    assert int(done["completed"]) + int(done["failed"]) == len(kept), "each job ended once"
    assert left == {"queued": {}, "waiting": {}, "running": {}}
    assert scene.killed.keys() == set(KILLS)


def knows(gateway: Gateway, key: str) -> bool:
    return send(gateway.port, "GET", f"/v2/{NAME}/openai/v1/models", key=key)[0] == 200


def set_up(scene: Scene) -> None:
    """Start all of them, with an endpoint whose pods are ready."""
    scene.valkey.start()
    scene.start_operator()
    for number in range(PODS):
        scene.start_pod(number)
    for number in range(2):
        scene.start_gateway(number)
    scene.kubectl.apply(endpoint(NAME, env=[{"name": "MAX_CONCURRENCY", "value": str(POD_CONCURRENCY)}]))
    secret = wait_for(lambda: scene.kubectl.get("secret", f"{NAME}-api-key"), "the key exists")
    scene.key = base64.b64decode(secret["data"]["api-key"]).decode()
    wait_for(lambda: scene.kubectl.get("service", NAME), "the operator has created the Service that lists the pods")
    for gateway, _ in scene.gateways.values():
        wait_for(lambda one=gateway: knows(one, scene.key), "the gateway has the endpoint in its directory")  # type: ignore[misc]
    gateway.pods(NAME, *scene.pods)


@pytest.fixture
def scene(control_plane: Kubectl, run_cluster: Callable[..., None], tmp_path: Path) -> Any:
    run_cluster("redis")
    mark = uuid.uuid4().hex[:6]
    home, system = control_plane.within(f"chaos-{mark}"), f"chaos-system-{mark}"
    home.run("create", "namespace", home.namespace)
    values = "--set=gateway.enabled=true", f"--set=watchNamespaces={{{home.namespace}}}"
    access = give_access(control_plane, tmp_path / "kubeconfig", system, *values)
    made = Scene(home, access, system, tmp_path, ValkeyServer(tmp_path))
    try:
        set_up(made)
        yield made
    finally:
        made.stop()
    for name in ("gateway-0", "gateway-1", "operator"):
        assert "Traceback" not in (tmp_path / name).read_text()


@pytest.mark.parametrize(
    "count", [pytest.param(500, id="500"), pytest.param(10_000, id="10000", marks=pytest.mark.soak)]
)
async def test_no_job_is_lost_or_ends_twice_when_processes_are_killed(scene: Scene, count: int) -> None:
    random.seed(seed := random.randrange(1 << 32))
    print(f"\nseed {seed}")
    await check(scene, count)
