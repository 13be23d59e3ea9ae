"""Seconds from exec to the first token: plain `vllm serve` against forebay-server, in turn, with a warm page cache.

python -m bench.start --rounds 3      (within the image, as `make bench` does)
"""

import argparse
import asyncio
import os
import time
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median

from bench.load import Work, load
from bench.servers import Server, composed, plain
from forebay_server.config import settings


@dataclass(frozen=True)
class Start:
    """One start: seconds from exec to the first token, MiB of the tree after the first token, and the startup
    report."""

    seconds: float
    memory: float
    report: str


FIGURES: dict[str, Callable[[Start], float]] = {
    "exec to first token, s": lambda start: start.seconds,
    "memory of the tree, MiB": lambda start: start.memory,
}


def start(made: AbstractContextManager[Server], model: str) -> Start:
    """Start a server, request one token, end it."""
    with made as server:
        healthy = time.perf_counter()
        asyncio.run(load(server.url, server.headers, Work(model, clients=1, requests=1, tokens=2)))
        seconds = server.started_after + time.perf_counter() - healthy
        report = ""
        if server.name == "composed":
            with urllib.request.urlopen(f"http://127.0.0.1:{settings.OPS_PORT}/startup") as reply:
                report = reply.read().decode()
        return Start(seconds, server.memory_bytes() / 2**20, report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measured pairs of starts (default: %(default)s)")
    rounds = parser.parse_args().rounds
    env = dict(os.environ)
    model = env.get("OPENAI_SERVED_MODEL_NAME_OVERRIDE") or env["MODEL_NAME"]
    pairs = [(start(plain(env), model), start(composed(env), model)) for _ in range(rounds + 1)][1:]
    print("| figure | plain | composed | ratio: median (least to most) |\n|---|---|---|---|")
    for figure, of in FIGURES.items():
        ratios = sorted(of(ours) / of(theirs) for theirs, ours in pairs)
        plains, composeds = (median(of(pair[side]) for pair in pairs) for side in (0, 1))
        spread = f"{median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        print(f"| {figure} | {plains:.1f} | {composeds:.1f} | {spread} |")
    print(f"\nOf the last start of the composed server: {pairs[-1][1].report}")


if __name__ == "__main__":
    main()
