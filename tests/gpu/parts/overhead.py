"""The cost of the composed server over plain `vllm serve`, at 1 to 256 streams: bench/overhead.py, both on one GPU."""

from contextlib import ExitStack
from statistics import median

from bench.load import Work
from bench.overhead import compare
from bench.servers import composed, plain
from tests.gpu.plan import MODEL, Run
from tests.gpu.record import Record

SHARE = "0.4"
"""The share of the GPU's memory for each of the two servers."""


def measure(run: Run, record: Record) -> None:
    """A comparison for each number of clients, the fewest first. Only one server is loaded at a time."""
    model = run.model(run.plan.served)
    environment = run.environment(model, LOAD_FORMAT="dummy", GPU_MEMORY_UTILIZATION=SHARE)
    with ExitStack() as stack:
        servers = (stack.enter_context(plain(environment)), stack.enter_context(composed(environment)))
        for clients in run.plan.clients:
            work = Work(MODEL, clients, max(4, clients * 2), run.plan.tokens)
            for row in compare(servers, work, run.plan.rounds):
                record.put(
                    {
                        "model": run.plan.served.name,
                        "clients": clients,
                        "figure": row.figure,
                        "plain": round(row.plain, 3),
                        "composed": round(row.composed, 3),
                        "ratio": f"{median(row.ratios):.3f} ({min(row.ratios):.3f} to {max(row.ratios):.3f})",
                    }
                )
