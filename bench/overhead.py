"""Measures the cost of the composed server compared with plain `vllm serve`.

Both run at the same time, and each round puts load on one and then on the other.

    make bench     in the image with the canned executor, and in the server image with the real model

Ratios are composed by plain, pair by pair, the median of all pairs; machines are noisy, so the spread matters too.
"""

import argparse
import asyncio
import json
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from bench.load import Work, load
from bench.servers import Server, composed, plain

FIGURES = (
    "CPU, ms per token",
    "CPU of the front end, ms per token",
    "tokens/s",
    "time to first token, ms",
    "inter-token latency, ms",
    "tokens per chunk",
)


@dataclass(frozen=True)
class Row:
    """One figure at one concurrency: medians of both servers, and the ratio's median, least and most."""

    clients: int
    figure: str
    plain: float
    composed: float
    ratios: tuple[float, ...]

    def text(self) -> str:
        """The row of a Markdown table."""
        low, middle, high = min(self.ratios), median(self.ratios), max(self.ratios)
        spread = f"{middle:.3f} ({low:.3f} to {high:.3f})"
        return f"| {self.clients} | {self.figure} | {self.plain:.3f} | {self.composed:.3f} | {spread} |"


async def measure(server: Server, work: Work) -> tuple[float, ...]:
    """The figures of one round, in the order of FIGURES."""
    before, before_front = server.cpu_seconds(), server.front_end_cpu_seconds()
    seen = await load(server.url, server.headers, work)
    cpu, front = server.cpu_seconds() - before, server.front_end_cpu_seconds() - before_front
    return (
        cpu / seen.tokens * 1e3,
        front / seen.tokens * 1e3,
        seen.tokens / seen.seconds,
        seen.first_token * 1e3,
        seen.between_tokens * 1e3,
        seen.tokens_per_chunk,
    )


def compare(servers: tuple[Server, Server], work: Work, rounds: int) -> Iterable[Row]:
    """Load the two servers in turn. The server that is first changes from round to round. A pair before the first round
    warms both up."""
    pairs = []
    for number in range(-1, rounds):
        order = servers if number % 2 else servers[::-1]
        seen = {server.name: asyncio.run(measure(server, work)) for server in order}
        if number >= 0:
            pairs.append(seen)
    for index, figure in enumerate(FIGURES):
        plains = [pair["plain"][index] for pair in pairs]
        composeds = [pair["composed"][index] for pair in pairs]
        ratios = tuple(ours / theirs for ours, theirs in zip(composeds, plains, strict=True))
        yield Row(work.clients, figure, median(plains), median(composeds), ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="pairs of measured rounds (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of each answer (default: %(default)s)")
    parser.add_argument("--clients", default="1,8,64", help="clients at once (default: %(default)s)")
    options = parser.parse_args()
    env = dict(os.environ)
    model = env.get("OPENAI_SERVED_MODEL_NAME_OVERRIDE") or env["MODEL_NAME"]
    with ExitStack() as stack:
        servers = (stack.enter_context(plain(env)), stack.enter_context(composed(env)))
        print("| clients | figure | plain | composed | ratio: median (least to most) |\n|---|---|---|---|---|")
        for clients in map(int, options.clients.split(",")):
            work = Work(model, clients, max(4, clients * 2), options.tokens)
            for row in compare(servers, work, options.rounds):
                print(row.text(), flush=True)
        print(json.dumps({server.name: f"{server.memory_bytes() / 2**20:.0f} MiB" for server in servers}))


if __name__ == "__main__":
    main()
