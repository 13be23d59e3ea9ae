"""Measures proxies between client and pod: the gateway and its peers, one after the other on this machine."""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.relay import peers
from bench.relay.upstream import CHUNKS_PER_SECOND
from bench.scale.measures import processor_seconds
from cluster.pins import ROOT
from tests.integration.control_plane import free_ports, running

LEVELS = (64, 256, 1024, 4096)
STREAMS_PER_SECOND = 1024
"""How fast the streams begin, but in no less than a second."""

RUN_SECONDS = 8
"""For which all streams of a run are there."""

WINDOW = 6.5
"""Seconds of these in which CPU time and chunks are counted."""


@dataclass(frozen=True)
class Run:
    """One program at one number of streams. CPU in microseconds a chunk, memory in MiB, delays in milliseconds."""

    name: str
    streams: int
    cpu: float
    memory: float
    measured: Mapping[str, Any]

    def row(self, direct: "Run") -> str:
        """A line of the table. Each delay is the difference to `direct` at the same number of streams."""
        seen, plain = self.measured, direct.measured
        added = [
            f"{value - base:.1f}" if self is not direct else f"{value:.1f}"
            for kind in ("first", "chunk")
            for value, base in zip(seen[kind] or (float("nan"),) * 2, plain[kind], strict=True)
        ]
        core = f"{1e6 / self.cpu:,.0f}" if self.cpu else "-"
        cells = [self.name, str(self.streams), f"{self.cpu:.1f}", core, *added, f"{self.memory:.0f}"]
        return f"| {' | '.join([*cells, str(seen['errors'])])} |"


HEAD = f"""\
| program | streams | CPU, µs a chunk | chunks/s a core | first token p50 | p99 | chunk p50 | p99 | MiB | errors |
|{"---|" * 10}"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=__doc__)
    parser.add_argument(
        "--streams",
        default=",".join(map(str, LEVELS)),
        help="comma-separated numbers of streams (default: %(default)s)",
    )
    parser.add_argument(
        "--programs", default=",".join(peers.NAMES), help="comma-separated programs (default: %(default)s)"
    )
    options = parser.parse_args()
    levels = [int(number) for number in options.streams.split(",")]
    programs = peers.install()
    print(f"Peers: {programs.versions()}\n\n{HEAD}", flush=True)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    (upstream,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        command = [str(programs.python), "-m", "bench.relay.upstream", str(upstream)]
        process = stack.enter_context(running(Path(folder) / "upstream.log", *command, env=env))
        wait_until_it_answers(upstream, programs)
        direct = {}
        for streams in levels:
            direct[streams] = measure("direct", process.pid, upstream, streams, programs)
            print(direct[streams].row(direct[streams]), flush=True)
        for name in options.programs.split(","):
            place = Path(folder) / name
            place.mkdir()
            with peers.standing(name, programs, upstream, place) as (pid, port):
                wait_until_it_answers(port, programs)
                for streams in levels:
                    print(measure(name, pid, port, streams, programs).row(direct[streams]), flush=True)


def load(port: int, streams: int, chunks: int, programs: peers.Programs, *options: str) -> "subprocess.Popen[str]":
    """Begin the client's program."""
    named = [str(port), str(streams), f"--chunks={chunks}", *options]
    command = [str(programs.python), "-m", "bench.relay.client", *named]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def wait_until_it_answers(port: int, programs: peers.Programs) -> None:
    """Wait for one stream without an error. Raises RuntimeError after two minutes."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        answer, _ = load(port, 1, 1, programs).communicate()
        if json.loads(answer.splitlines()[-1])["done"]:
            return
        time.sleep(0.5)
    raise RuntimeError(f"what should listen on port {port} does not answer: {answer}")


def measure(name: str, pid: int, port: int, streams: int, programs: peers.Programs) -> Run:
    """Load one program, and count its CPU time while all streams are there."""
    ramp = max(1.0, streams / STREAMS_PER_SECOND)
    client = load(
        port,
        streams,
        int((RUN_SECONDS + ramp) * CHUNKS_PER_SECOND),
        programs,
        f"--ramp={ramp}",
        f"--window={WINDOW}",
    )
    assert client.stdout
    client.stdout.readline()
    before = cpu_seconds(pid)
    time.sleep(WINDOW)
    used = cpu_seconds(pid) - before
    memory = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in tree(pid))
    measured = json.loads(client.communicate()[0])
    if measured["example"]:
        print(f"  {name}: {measured['example']}", flush=True)
    return Run(name, streams, used / max(1, measured["in_window"]) * 1e6, memory * 4096 / 2**20, measured)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children."""
    return sum(map(processor_seconds, tree(pid)))


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in tree(int(child)))]


if __name__ == "__main__":
    main()
