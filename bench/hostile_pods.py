"""Measures how the operator copes with pods that send it hostile answers: `python -m bench.hostile_pods`.

A tenant has many endpoints that scale, all of whose pods answer alike; a neighbour makes endpoints in another
namespace. The table has the neighbour's wait for a Deployment. It also has the operator's CPU, its peak memory and the
longest delay of its event loop. The first row is for pods that answer correctly.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from bench.neighbours import forget_peak, lags, longest, peak_mib
from bench.scale import objects
from bench.scale.measures import processor_seconds
from bench.scale.plane import POD_ADDRESS, start_plane
from forebay_protocol.pod import OPS_PORT
from tests.integration.control_plane import free_ports, running
from tests.integration.operator_probes import ask
from tests.kubectl import Kubectl, Manifest, wait_for

THIEF, NEIGHBOUR = "thieves", "neighbours"
MIB = 1 << 20
NEW = 10
"""Endpoints that the neighbour makes, one after the other, in each measurement."""

HEAD = "| pods that | Deployment after, ms (median, most) | CPU, cores | peak, MiB | longest step, s |\n|" + "---|" * 5

Writer = asyncio.StreamWriter
OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
LINE = b"forebay_requests_in_flight 1\nforebay_requests_total 2\n"


async def answer(writer: Writer) -> None:
    writer.write(OK + LINE)


async def never_answer(_: Writer) -> None:
    await asyncio.sleep(3600)


async def answer_without_end(writer: Writer) -> None:
    writer.write(OK)
    while True:
        writer.write(b"x" * MIB)
        await writer.drain()


async def answer_half_a_megabyte(writer: Writer) -> None:
    writer.write(OK + LINE * ((500 << 10) // len(LINE)))


async def answer_deep_json(writer: Writer) -> None:
    writer.write(OK + b'{"step":' + b"[" * 60_000)


async def answer_huge_numbers(writer: Writer) -> None:
    writer.write(OK + b"forebay_requests_in_flight " + b"9" * 60_000 + b"\n")


async def redirect(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\r\n")


async def answer_no_http(writer: Writer) -> None:
    writer.write(b"\0" * 100_000)


PODS: tuple[Callable[[Writer], Awaitable[None]], ...] = (
    answer, never_answer, answer_without_end, answer_half_a_megabyte, answer_deep_json, answer_huge_numbers, redirect,
    answer_no_http,
)  # fmt: skip


async def play(name: str) -> None:
    """Answer for all pods, until the process is ended."""
    (played,) = [each for each in PODS if each.__name__ == name]

    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await played(writer)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, POD_ADDRESS, OPS_PORT, backlog=4096):
        await asyncio.Event().wait()


def build_scaled(number: int) -> Manifest:
    endpoint = objects.build_endpoint(THIEF, number)
    endpoint["spec"] |= {"replicas": 2, "scaling": {"minReplicas": 2, "maxReplicas": 3}}
    return endpoint


def wait_for_deployment(kubectl: Kubectl, number: int) -> float:
    """Milliseconds until a new endpoint of the neighbour's has its Deployment."""
    endpoint = objects.build_endpoint(NEIGHBOUR, number)
    endpoint["spec"]["replicas"] = 0
    kubectl.apply(endpoint)
    began = time.perf_counter()
    name = endpoint["metadata"]["name"]
    wait_for(lambda: kubectl.get("deployment", name), "the neighbour's Deployment", 60, interval=0.01)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile_pods", description=__doc__)
    parser.add_argument(
        "--endpoints", type=int, default=100, help="endpoints of the tenant, each with 2 pods (default: %(default)s)"
    )
    parser.add_argument("--play", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.play:
        asyncio.run(play(arguments.play))
        return
    with tempfile.TemporaryDirectory() as name, start_plane(Path(name), pods=4 * arguments.endpoints) as plane:
        folder, (port,) = Path(name), free_ports(1)
        thief, neighbour = (plane.admin.within(each) for each in (THIEF, NEIGHBOUR))
        for each in (THIEF, NEIGHBOUR):
            plane.admin.run("create", "namespace", each)
        command = [
            sys.executable, "-m", "forebay_operator", "--gpu-image", objects.GPU_IMAGE,
            "--overlay-image", objects.OVERLAY_IMAGE, "--namespace", "forebay-system",
            "--health-address", f"127.0.0.1:{port}", "--log-level", "ERROR",
        ]  # fmt: skip
        with running(folder / "operator.log", *command, env=plane.operator.environment()) as operator:
            wait_for(lambda: ask(port, "/readyz") == (200, "leading\n"), "the operator is leading", 60)
            for number in range(arguments.endpoints):
                thief.apply(build_scaled(number))
            wait_for(lambda: all(map(objects.is_ready, thief.list("iep"))), "all are ready", 600, interval=1)
            print(f"{arguments.endpoints} endpoints of the tenant's\n\n{HEAD}", flush=True)
            for turn, pods in enumerate(PODS):
                played = [sys.executable, "-m", "bench.hostile_pods", "--play", pods.__name__]
                with running(folder / "pods.log", "nice", "-n", "19", *played):
                    time.sleep(3)
                    forget_peak(operator.pid)
                    before, cpu, began = lags(port), processor_seconds(operator.pid), time.monotonic()
                    waits = sorted(wait_for_deployment(neighbour, NEW * turn + each) for each in range(NEW))
                    time.sleep(max(0.0, began + 10 - time.monotonic()))
                    used = (processor_seconds(operator.pid) - cpu) / (time.monotonic() - began)
                    row = (f"{waits[NEW // 2]:.0f}, {waits[-1]:.0f}", f"{used:.2f}", f"{peak_mib(operator.pid):.0f}")
                    row_text = " | ".join((*row, longest(before, lags(port))))
                    print(f"| {pods.__name__.replace('_', ' ')} | {row_text} |", flush=True)
            assert operator.poll() is None, (folder / "operator.log").read_text()[-2000:]


if __name__ == "__main__":
    main()
