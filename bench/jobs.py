"""Measures the cost of the job queue, in memory and in Valkey: `python -m bench.jobs`.

/runsync through the gateway against the same job given to the pod directly, turn by turn; /run until /status says
COMPLETED; and how fast jobs are accepted while no pod runs, and the memory of each. The pod is canned;
Valkey is Debian's Redis, which writes each step to disk before it answers.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import aiohttp

from bench.relay.peers import standing_gateway
from bench.scale.measures import memory_mb, processor_seconds
from tests.integration.canned_pod import CannedPod, Exchange, reply
from tests.integration.gateway_process import KEY, Gateway
from tests.integration.openai_calls import ready_pod
from tests.integration.valkey_process import running_valkey

JOB = {"input": {"prompt": "What is the capital of France?"}}
ITEM = {"choices": [{"tokens": ["Paris"]}], "usage": {"input": 8, "output": 1}}
SUBMITTERS = 32
PER_ENDPOINT = 1000
"""RunPod's limit for /run in ten seconds."""

POLL = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.jobs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=400, help="jobs of each kind, one by one (default: %(default)s)")
    parser.add_argument("--queued", type=int, default=20_000, help="jobs to queue (default: %(default)s)")
    arguments = parser.parse_args()
    for store in ("memory", "valkey"):
        print(f"\n### Jobs in {store}\n", flush=True)
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            valkey = stack.enter_context(running_valkey(Path(folder))) if store == "valkey" else None
            gateway = stack.enter_context(standing_gateway(Path(folder), valkey.url if valkey else ""))
            measure(gateway, valkey.pid if valkey else 0, arguments)


def measure(gateway: Gateway, valkey_pid: int, arguments: argparse.Namespace) -> None:
    """Latency first, then what a full queue costs, in the gateway or in Valkey."""
    gateway.endpoint("running")
    with ready_pod(gateway, "running") as pod:
        pod.answer = answer
        asyncio.run(measure_latency(gateway, pod, arguments.rounds))
    names = [f"queue-{number}" for number in range(-(-arguments.queued // PER_ENDPOINT))]
    for name in names:
        gateway.endpoint(name)
    asyncio.run(measure_intake(gateway, valkey_pid, names, arguments.queued))


async def answer(exchange: Exchange) -> None:
    """Answer with a job's output: line by line for the gateway, as a whole for others."""
    await exchange.read_body()
    if b"application/x-ndjson" not in exchange.head:
        await reply(exchange, 200, {"id": "sync-1", "output": [ITEM], "status": "COMPLETED"})
        return
    lines = b"".join(json.dumps(each).encode() + b"\n" for each in ({"output": ITEM}, {"status": "COMPLETED"}))
    await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n" + lines)


async def measure_latency(gateway: Gateway, pod: CannedPod, rounds: int) -> None:
    base = f"http://127.0.0.1:{gateway.port}/v2/running"
    async with open_session() as session:

        async def run_and_poll() -> None:
            job = (await post(session, f"{base}/run"))["id"]
            while True:
                if (await post(session, f"{base}/status/{job}"))["status"] == "COMPLETED":
                    return
                await asyncio.sleep(POLL)

        ways: dict[str, Callable[[], Awaitable[Any]]] = {
            "the pod's own /runsync": lambda: post(session, f"http://{pod.host}:{pod.port}/v2/running/runsync"),
            "/runsync": lambda: post(session, f"{base}/runsync"),
            f"/run until /status, asked every {POLL * 1000:.0f} ms, says COMPLETED": run_and_poll,
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                began = time.perf_counter()
                await way()
                seconds[name].append(time.perf_counter() - began)
    direct = seconds["the pod's own /runsync"]
    print(
        f"| one job at a time, {rounds} of each | p50, ms | p99, ms | more than the pod's own, p50, ms |\n|{'---|' * 4}"
    )
    for name, taken in seconds.items():
        added = (median(taken) - median(direct)) * 1000
        print(f"| {name} | {median(taken) * 1000:.1f} | {percentile(taken, 99) * 1000:.1f} | {added:.1f} |", flush=True)


async def measure_intake(gateway: Gateway, valkey_pid: int, names: Sequence[str], count: int) -> None:
    pid, kept_by = gateway.process.pid, valkey_pid or gateway.process.pid
    numbers = iter(range(count))
    body = {**JOB, "policy": {"lowPriority": True}}  # which starts nothing

    async def submit(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            name = names[number % len(names)]
            answer = await post(session, f"http://127.0.0.1:{gateway.port}/v2/{name}/run", body)
            if answer.get("status") != "IN_QUEUE":
                raise RuntimeError(f"a job was not taken in: {answer}")

    memory, used, began = memory_mb(kept_by), processor_seconds(pid), time.perf_counter()
    async with open_session() as session:
        await asyncio.gather(*(submit(session) for _ in range(SUBMITTERS)))
    seconds, cpu = time.perf_counter() - began, processor_seconds(pid) - used
    grown = (memory_mb(kept_by) - memory) * 1000 / count
    print(f"\n| jobs queued, {SUBMITTERS} clients | jobs/s | CPU of the gateway, µs a job | kB a job |\n|{'---|' * 4}")
    print(f"| {count} | {count / seconds:,.0f} | {cpu / count * 1e6:.0f} | {grown:.2f} |")


def open_session() -> aiohttp.ClientSession:
    """A connection for each request, as the gateway has it."""
    headers = {"Authorization": f"Bearer {KEY}"}
    return aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0, force_close=True))


async def post(session: aiohttp.ClientSession, url: str, content: object = JOB) -> dict[str, Any]:
    async with session.post(url, json=content) as answer:
        return dict(await answer.json())


def percentile(values: Sequence[float], of: int) -> float:
    return quantiles(values, n=100)[of - 1]


if __name__ == "__main__":
    main()
