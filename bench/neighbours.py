"""Measures how far one tenant slows another when it attacks the gateway that both share: `python -m bench.neighbours`.

Every attack runs for some seconds in its own process with the lowest priority, since the gateway is to be
measured and not this machine. Each run measures the neighbour's p99 three times: before an attack; during an attack on
another gateway of this machine, which shows the effect of the machine; and during an attack on the neighbour's gateway.
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
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.relay.peers import standing_gateway
from cluster.pins import ROOT
from tests.integration.canned_pod import CannedPod, own_address
from tests.integration.control_plane import free_ports
from tests.integration.gateway_process import Gateway, running_gateway
from tests.integration.openai_calls import wait_until_listed

KEY, THIEF = "fb_key-of-the-neighbour", "fb_key-of-the-thief"
NEIGHBOUR = "127.0.0.2"
"""An address that is not the attacker's: the gateway limits connections without a key for each address."""

RATE = 100
"""Requests of the neighbour in a second."""

ONSET = 1.5
"""Seconds from the start of an attack to the measurement."""

BEGUN = 200
"""Connections that an attack opens in a second, at first."""

MIB = 1 << 20
THIEVES = "thieves"
"""The attacker's namespace."""

HEAD = """\
| attack | p99 alone, ms | another gateway attacked | attacked | to alone | to another | longest step, s | peak, MiB |
|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Place:
    """The address of the gateway for an attacker, and the ports of the attacker's pods."""

    gateway: int
    pods: dict[str, int]


def own(pod: str, path: str) -> str:
    """The path of a request to the attacker's endpoint that has this pod."""
    return f"/v2/{THIEVES}.{pod}/{path}"


def head(method: str, path: str, length: int, *lines: str, key: str = THIEF) -> bytes:
    """The head of a request."""
    given = [f"Authorization: Bearer {key}"] if key else []
    all_lines = [f"{method} {path} HTTP/1.1", "Host: x", *given, f"Content-Length: {length}", *lines]
    return "\r\n".join([*all_lines, "", ""]).encode()


async def send(place: Place, data: bytes, *, reads: bool = True) -> None:
    """Send one request of the attacker. A refused request is no error."""
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
    """Run this many at the same time; the first ones start one after the other."""

    async def one(number: int) -> None:
        await asyncio.sleep(number / BEGUN)
        while True:
            await send(place, data, reads=reads)
            await asyncio.sleep(0.01)

    await asyncio.gather(*map(one, range(at_once)))


CHAT, FILES, BATCHES = "openai/v1/chat/completions", "openai/v1/files", "openai/v1/batches"
JOB = b'{"input": {"prompt": "x"}}'
FORM = "Content-Type: multipart/form-data; boundary=b"


async def backtracking_form(place: Place) -> None:
    body = b"--b\r\n" + b'Content-Disposition: form-data; name="model"\r\n' * 5000 + b"\r\n\r\n--b--\r\n"
    await again_and_again(place, head("POST", "/openai/v1/audio/transcriptions", len(body), FORM, key="") + body)


async def empty_parts(place: Place) -> None:
    body = b"--b\r\n\r\n\r\n" * 200_000 + b"--b--\r\n"
    await again_and_again(place, head("POST", own("plain", FILES), len(body), FORM) + body)


async def small_lists(place: Place) -> None:
    body = b'{"model": "open/model", "messages": [' + b"[[],[]]," * (3 * MIB) + b"1]}"
    await again_and_again(place, head("POST", "/openai/v1/chat/completions", len(body), key="") + body)


async def bodies_that_do_not_end(place: Place) -> None:
    size = 31 * MIB
    probes = [head(method, "/health", size, key="") for method in ("POST", "OPTIONS")]
    bodies = [head("POST", own("plain", CHAT), size) + b"x" * (size - 1)] * 6
    await asyncio.gather(*(again_and_again(place, data, 2) for data in (*probes, *bodies)))


async def a_pod_that_does_not_read(place: Place) -> None:
    body = b'{"model": "thief/model", "messages": ["' + b"x" * (30 * MIB) + b'"]}'
    await again_and_again(place, head("POST", own("silent", CHAT), len(body)) + body, 12)


async def endless_answers_to_jobs(place: Place) -> None:
    await again_and_again(place, head("POST", own("endless", "run"), len(JOB)) + JOB, 8)


async def long_lines_of_jobs(place: Place) -> None:
    await again_and_again(place, head("POST", own("line", "run"), len(JOB)) + JOB, 8)


async def slow_readers_of_outputs(place: Place) -> None:
    """Each requests an output of 12 MiB and reads nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.gateway)
    writer.write(head("POST", own("output", "runsync"), len(JOB)) + JOB)
    answer = await reader.read(-1)
    writer.close()
    job = re.search(rb'"id": ?"(sync-[^"]+)"', answer)
    status = own("output", f"status/{job[1].decode()}") if job else own("output", "health")
    await again_and_again(place, head("GET", status, 0), 100, reads=False)


async def slow_readers_of_streams(place: Place) -> None:
    body = b'{"model": "thief/model", "messages": [], "stream": true}'
    await again_and_again(place, head("POST", own("stream", CHAT), len(body)) + body, 1000, reads=False)


async def web_sockets(place: Place) -> None:
    """Neither end reads, and both write."""
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==")
    path = own("socket", "openai/v1/realtime?model=thief/model")
    data = head("GET", path, 0, *lines, "Sec-WebSocket-Version: 13") + b"x" * MIB
    await again_and_again(place, data, 500, reads=False)


async def silent_connections(place: Place) -> None:
    await again_and_again(place, b"", 1500, reads=False)


async def big_jobs(place: Place) -> None:
    """Submit big jobs for a pod that answers immediately, and for a pod that reads nothing."""
    body = b'{"input": "' + b"x" * 9_900_000 + b'", "policy": {"lowPriority": true}}'
    await asyncio.gather(
        *(again_and_again(place, head("POST", own(pod, "run"), len(body)) + body, 1) for pod in ("plain", "silent"))
    )


async def poisoned_batches(place: Place) -> None:
    lines = b"1\n" * (4 * MIB)
    start = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + lines + b"\r\n--b--\r\n"
    body = start + part
    while True:
        with suppress(OSError, ValueError, KeyError):
            reader, writer = await asyncio.open_connection("127.0.0.1", place.gateway)
            writer.write(head("POST", own("plain", FILES), len(body), FORM) + body)
            answer = (await reader.read(-1)).partition(b"\r\n\r\n")[2]
            writer.close()
            request = {
                "input_file_id": json.loads(answer)["id"],
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
            }
            data = json.dumps(request).encode()
            await send(place, head("POST", own("plain", BATCHES), len(data)) + data)
        await asyncio.sleep(0.05)


async def all_of_memory(place: Place) -> None:
    await asyncio.gather(*(each(place) for each in OF_MEMORY))


OF_MEMORY = (
    bodies_that_do_not_end,
    a_pod_that_does_not_read,
    endless_answers_to_jobs,
    long_lines_of_jobs,
    slow_readers_of_outputs,
    slow_readers_of_streams,
    web_sockets,
    big_jobs,
)

ATTACKS: dict[str, Callable[[Place], Awaitable[None]]] = {
    attack.__name__: attack
    for attack in (
        backtracking_form,
        empty_parts,
        small_lists,
        silent_connections,
        poisoned_batches,
        *OF_MEMORY,
        all_of_memory,
    )
}


PODS = ("plain", "silent", "endless", "line", "output", "stream", "socket")
LINES = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n"


async def answer_as(pod: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a request like a pod of the attacker."""
    if pod == "silent":
        await asyncio.sleep(3600)
    await reader.readuntil(b"\r\n\r\n")
    match pod:
        case "plain":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        case "endless":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
            await write_on(writer, b"[" * MIB)
        case "line":
            writer.write(LINES + b'{"output": "' + b"x" * (15 * MIB))
            await asyncio.sleep(3600)
        case "output":
            writer.write(LINES + b'{"output": "' + b"x" * (12 * MIB) + b'"}\n{"status": "COMPLETED"}\n')
        case "stream":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            await write_on(writer, b"data: {}\n\n" * 10_000)
        case "socket":
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
            await write_on(writer, b"x" * MIB)


async def write_on(writer: asyncio.StreamWriter, data: bytes) -> None:
    while True:
        writer.write(data)
        await writer.drain()


async def attack(name: str, place: Place) -> None:
    """Run an attack, and the attacker's pod, until the process is ended."""

    async def answer(pod: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await answer_as(pod, reader, writer)
        writer.close()

    async with AsyncExitStack() as stack:
        for pod, port in place.pods.items():
            await stack.enter_async_context(await asyncio.start_server(partial(answer, pod), own_address(), port))
        await ATTACKS[name](place)


async def measure(port: int, seconds: float) -> list[float]:
    """Measure the latencies of the neighbour's requests in ms. The requests start at a steady rate, whether earlier
    ones have been answered or not."""
    body = b'{"model": "org/model", "messages": []}'
    data = head("POST", "/v2/neighbour/openai/v1/chat/completions", len(body), key=KEY) + body
    taken: list[float] = []

    async def one() -> None:
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(NEIGHBOUR, 0))
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


def lags(ops_port: int) -> dict[str, float]:
    """For each bound, the number of times that the event loop behind this ops port was later because of its own CPU
    time."""
    with urllib.request.urlopen(f"http://127.0.0.1:{ops_port}/metrics", timeout=30) as reply:
        text = reply.read().decode()
    return {bound: float(count) for bound, count in re.findall(r'loop_busy_seconds_bucket\{le="([^"]+)"\} (\S+)', text)}


def longest(before: dict[str, float], after: dict[str, float]) -> str:
    """The bound of the metric under which every step stayed."""
    total = after["+Inf"] - before["+Inf"]
    return next(bound for bound in after if after[bound] - before[bound] >= total)


def forget_peak(pid: int) -> None:
    """Reset the peak memory that the kernel counts for a process (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mib(pid: int) -> float:
    """The peak memory of a process in MiB, since `forget_peak`."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


@contextmanager
def attacking(name: str, place: Place) -> Iterator[None]:
    pods = json.dumps(place.pods)
    command = [sys.executable, "-m", "bench.neighbours", "--attack", name, str(place.gateway), pods]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(["nice", "-n", "19", *command], env=env, cwd=ROOT) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait()
            for pod in place.pods:  # what is queued still would be part of the next attack
                asyncio.run(send(place, head("POST", own(pod, "purge-queue"), 0)))


def give_endpoints(gateway: Gateway, place: Place) -> None:
    """Make the attacker's endpoints, one for each pod, and an open one."""
    gateway.kubectl.run("create", "namespace", THIEVES)
    there = gateway.within(THIEVES)
    there.endpoint("open", keys=(), models=["open/model"], auth={"mode": "None"})
    listed = [{"addresses": [own_address()], "conditions": {"ready": True}}]
    for name, port in place.pods.items():
        there.endpoint(name, keys=[THIEF], models=["thief/model"], replicas=1)
        there.list_pods(f"{name}-pod", name, port, listed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.neighbours", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="seconds of each measurement (default: %(default)s)")
    parser.add_argument("--attacks", default=",".join(ATTACKS), help="comma-separated attacks (default: %(default)s)")
    parser.add_argument("--attack", nargs=3, metavar=("NAME", "GATEWAY", "PODS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attack:
        name, gateway, pods = arguments.attack
        asyncio.run(attack(name, Place(int(gateway), json.loads(pods))))
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        standing_gateway(Path(folder)) as found,
        running_gateway(found.kubectl, found.system, Path(folder) / "other.log") as other,
        CannedPod() as pod_,
    ):
        print(f"{RATE} requests a second of the neighbour, {arguments.seconds:g} s each\n\n{HEAD}", flush=True)
        found.endpoint("neighbour", keys=[KEY])
        found.pods("neighbour", pod_)
        place = Place(found.port, dict(zip(PODS, free_ports(len(PODS)), strict=True)))
        give_endpoints(found, place)
        wait_until_listed(found, "neighbour", pod_, KEY)
        for name in arguments.attacks.split(","):
            alone = p99(asyncio.run(measure(found.port, arguments.seconds)))
            with attacking(name, replace(place, gateway=other.port)):
                time.sleep(ONSET)
                elsewhere = p99(asyncio.run(measure(found.port, arguments.seconds)))
            before = lags(found.ops_port)
            forget_peak(found.process.pid)
            with attacking(name, place):
                time.sleep(ONSET)
                attacked = p99(asyncio.run(measure(found.port, arguments.seconds)))
            times = [f"{each:.1f}" for each in (alone, elsewhere, attacked, attacked / alone, attacked / elsewhere)]
            row = (*times, longest(before, lags(found.ops_port)))
            print(f"| {name.replace('_', ' ')} | {' | '.join(row)} | {peak_mib(found.process.pid):.0f} |", flush=True)


if __name__ == "__main__":
    main()
