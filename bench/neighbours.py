"""What a tenant notices while another attacks the gateway that both share: `python -m bench.neighbours`.

Every attack runs for some seconds in a process of its own, as nice as it can be, since it is the gateway that is to be
measured and not this machine. Compared is one run with itself: the neighbour's p99 before each attack and during it.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.relay.peers import standing_gateway
from bench.scale.measures import memory_mb
from cluster.pins import ROOT
from tests.integration.asking import wait_until_listed
from tests.integration.canned_pod import CannedPod, own_address
from tests.integration.control_plane import free_ports
from tests.integration.gateway_process import Gateway

KEY, THIEF = "fb_key-of-the-neighbour", "fb_key-of-the-thief"
RATE = 50
"""Requests of the neighbour in a second."""

MIB = 1 << 20
HEAD = "| attack | p99 alone, ms | p99 attacked, ms | ratio | longest step, s | gateway, MiB |\n|" + "---|" * 6


@dataclass(frozen=True)
class Place:
    """Where an attacker finds the gateway, and the port of his own pod."""

    gateway: int
    own_pod: int


def head(method: str, path: str, length: int, *lines: str, key: str = THIEF) -> bytes:
    """The head of a request."""
    given = [f"Authorization: Bearer {key}"] if key else []
    all_lines = [f"{method} {path} HTTP/1.1", "Host: x", *given, f"Content-Length: {length}", *lines]
    return "\r\n".join([*all_lines, "", ""]).encode()


async def send(place: Place, data: bytes, *, reads: bool = True) -> None:
    """One request of the attacker's; refused ones are part of it."""
    with suppress(OSError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection("127.0.0.1", place.gateway)
        try:
            writer.write(data)
            await writer.drain()
            if reads:
                await reader.read(-1)
            else:
                await asyncio.sleep(3600)
        finally:
            writer.close()


async def again_and_again(place: Place, data: bytes, at_once: int = 2, *, reads: bool = True) -> None:
    async def one() -> None:
        while True:
            await send(place, data, reads=reads)
            await asyncio.sleep(0.01)

    await asyncio.gather(*(one() for _ in range(at_once)))


FORM = "Content-Type: multipart/form-data; boundary=b"


async def backtracking_form(place: Place) -> None:
    body = b"--b\r\n" + b'Content-Disposition: form-data; name="model"\r\n' * 5000 + b"\r\n\r\n--b--\r\n"
    await again_and_again(place, head("POST", "/openai/v1/audio/transcriptions", len(body), FORM, key="") + body)


async def empty_parts(place: Place) -> None:
    body = b"--b\r\n\r\n\r\n" * 200_000 + b"--b--\r\n"
    await again_and_again(place, head("POST", "/v2/thief/openai/v1/files", len(body), FORM) + body)


async def small_lists(place: Place) -> None:
    body = b'{"model": "open/model", "messages": [' + b"[[],[]]," * (3 * MIB) + b"1]}"
    await again_and_again(place, head("POST", "/openai/v1/chat/completions", len(body), key="") + body)


async def bodies_that_do_not_end(place: Place) -> None:
    size = 31 * MIB
    probes = [head(method, "/health", size, key="") for method in ("POST", "OPTIONS")]
    bodies = [head("POST", "/v2/thief/openai/v1/chat/completions", size) + b"x" * (size - 1)] * 6
    await asyncio.gather(*(again_and_again(place, data, 2) for data in (*probes, *bodies)))


async def a_pod_that_does_not_read(place: Place) -> None:
    body = b'{"model": "thief/model", "messages": ["' + b"x" * (30 * MIB) + b'"]}'
    await again_and_again(place, head("POST", "/v2/thief/openai/v1/chat/completions", len(body)) + body, 12)


async def endless_answers_to_jobs(place: Place) -> None:
    body = b'{"input": {"prompt": "x"}}'
    await again_and_again(place, head("POST", "/v2/thief/run", len(body)) + body, 8)


async def silent_connections(place: Place) -> None:
    await asyncio.gather(*(again_and_again(place, b"", 1, reads=False) for _ in range(1500)))


async def big_jobs(place: Place) -> None:
    body = b'{"input": "' + b"x" * 9_900_000 + b'", "policy": {"lowPriority": true}}'
    await again_and_again(place, head("POST", "/v2/thief/run", len(body)) + body)


async def poisoned_batches(place: Place) -> None:
    lines = b"1\n" * (4 * MIB)
    start = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + lines + b"\r\n--b--\r\n"
    body = start + part
    while True:
        with suppress(OSError, ValueError, KeyError):
            reader, writer = await asyncio.open_connection("127.0.0.1", place.gateway)
            writer.write(head("POST", "/v2/thief/openai/v1/files", len(body), FORM) + body)
            answer = (await reader.read(-1)).partition(b"\r\n\r\n")[2]
            writer.close()
            asked = {
                "input_file_id": json.loads(answer)["id"],
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
            }
            data = json.dumps(asked).encode()
            await send(place, head("POST", "/v2/thief/openai/v1/batches", len(data)) + data)
        await asyncio.sleep(0.05)


ATTACKS: dict[str, Callable[[Place], Awaitable[None]]] = {
    attack.__name__: attack
    for attack in (
        backtracking_form,
        empty_parts,
        small_lists,
        bodies_that_do_not_end,
        a_pod_that_does_not_read,
        endless_answers_to_jobs,
        silent_connections,
        big_jobs,
        poisoned_batches,
    )
}


async def attack(name: str, place: Place) -> None:
    """Run an attack, and the attacker's pod, until the process is ended."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            if name == "a_pod_that_does_not_read":
                await asyncio.sleep(3600)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
            while name == "endless_answers_to_jobs":
                writer.write(b"[" * MIB)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, own_address(), place.own_pod):
        await ATTACKS[name](place)


async def measure(port: int, seconds: float) -> list[float]:
    """What the neighbour's requests take, in ms, begun at a steady rate whatever becomes of them."""
    body = b'{"model": "org/model", "messages": []}'
    data = head("POST", "/v2/neighbour/openai/v1/chat/completions", len(body), key=KEY) + body
    taken: list[float] = []

    async def one() -> None:
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        answer = await reader.read(-1)
        writer.close()
        taken.append((time.perf_counter() - began) * 1000 if answer.startswith(b"HTTP/1.1 200") else float("inf"))

    async with asyncio.TaskGroup() as group:
        for _ in range(round(RATE * seconds)):
            group.create_task(one())
            await asyncio.sleep(1 / RATE)
    return sorted(taken)


def p99(taken: list[float]) -> float:
    return taken[int(len(taken) * 0.99)]


def lags(gateway: Gateway) -> dict[str, float]:
    """How often the gateway's event loop was later than each bound."""
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.ops_port}/metrics", timeout=30) as reply:
        text = reply.read().decode()
    return {bound: float(count) for bound, count in re.findall(r'loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)', text)}


def longest(before: dict[str, float], after: dict[str, float]) -> str:
    """The bound of the metric under which every step stayed."""
    total = after["+Inf"] - before["+Inf"]
    return next(bound for bound in after if after[bound] - before[bound] >= total)


@contextmanager
def attacking(name: str, place: Place) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.neighbours", "--attack", name, str(place.gateway), str(place.own_pod)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(["nice", "-n", "19", *command], env=env, cwd=ROOT) as process:
        try:
            yield
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.neighbours", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement (default: %(default)s)")
    parser.add_argument("--attacks", default=",".join(ATTACKS), help="which (default: %(default)s)")
    parser.add_argument("--attack", nargs=3, metavar=("NAME", "GATEWAY", "POD"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.attack:
        name, gateway, pod = asked.attack
        asyncio.run(attack(name, Place(int(gateway), int(pod))))
        return
    with tempfile.TemporaryDirectory() as folder, standing_gateway(Path(folder)) as found, CannedPod() as pod_:
        print(f"{RATE} requests a second of the neighbour, {asked.seconds:g} s each\n\n{HEAD}", flush=True)
        (own_pod,) = free_ports(1)
        found.endpoint("neighbour", keys=[KEY])
        found.endpoint("thief", keys=[THIEF], models=["thief/model"], replicas=1)
        found.endpoint("open", keys=(), models=["open/model"], auth={"mode": "None"})
        found.pods("neighbour", pod_)
        found.list_pods("thief-pod", "thief", own_pod, [{"addresses": [own_address()], "conditions": {"ready": True}}])
        wait_until_listed(found, "neighbour", pod_, KEY)
        for name in asked.attacks.split(","):
            alone = p99(asyncio.run(measure(found.port, asked.seconds)))
            before = lags(found)
            with attacking(name, Place(found.port, own_pod)):
                time.sleep(1.5)
                attacked = p99(asyncio.run(measure(found.port, asked.seconds)))
            row = (f"{alone:.1f}", f"{attacked:.1f}", f"{attacked / alone:.1f}", longest(before, lags(found)))
            print(f"| {name.replace('_', ' ')} | {' | '.join(row)} | {memory_mb(found.process.pid):.0f} |", flush=True)


if __name__ == "__main__":
    main()
