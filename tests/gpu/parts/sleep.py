"""Sleep levels 1 and 2: seconds to sleep and to wake, and the memory that is free in between."""

import secrets
import time

from bench.servers import Server, composed
from tests.gpu import memory, ops
from tests.gpu.plan import Run
from tests.gpu.record import Record

LEVELS = (1, 2)
TURNS = 2
"""For each level: the first one finds nothing prepared, such as pinned memory of the host."""


def measure(run: Run, record: Record) -> None:
    """With weights on disk, which level 2 reads again."""
    tokens = run.folder / "control"
    tokens.mkdir()
    token = secrets.token_urlsafe(32)
    (tokens / "token").write_text(token)
    model = run.model(run.plan.slept, weights=True)
    environment = run.environment(model, ENABLE_SLEEP_MODE="true", FOREBAY_CONTROL_DIR=str(tokens))
    if run.plan.device == "cpu":
        del environment["ENABLE_SLEEP_MODE"]  # vLLM refuses it there
    with composed(environment) as server:
        for level in LEVELS:
            for _ in range(TURNS):
                _, before = ops.complete(server)
                record.put({"model": run.plan.slept.name, "level": level, **one_turn(server, level, token, before)})


def one_turn(server: Server, level: int, token: str, before: str) -> dict[str, str | float]:
    """Put the engine to sleep and wake it. `before` is its answer before that."""
    awake = memory.used_mib(server)
    began = time.monotonic()
    ops.control(f"/sleep?level={level}", token)
    slept = time.monotonic() - began
    asleep = memory.used_mib(server)
    refused, _ = ops.complete(server)
    began = time.monotonic()
    ops.control("/wake_up", token)
    status, after = ops.complete(server)
    woken = time.monotonic() - began
    return {
        "to sleep, s": round(slept, 2),
        "wake_up to the end of an answer, s": round(woken, 2),
        "memory awake, MiB": round(awake),
        "asleep, MiB": round(asleep),
        "given back, MiB": round(awake - asleep),
        "answer asleep": str(refused),
        "answer after": f"{status}, {'the same text' if after == before else 'another text'}",
    }
