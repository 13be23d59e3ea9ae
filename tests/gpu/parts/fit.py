"""The estimates of memory_fit.py against vLLM's real memory, for models of several sizes with dummy weights."""

import json
import re
from pathlib import Path

from bench.servers import composed
from forebay_server.lifecycle import memory_fit
from tests.gpu import memory, ops
from tests.gpu.plan import Run
from tests.gpu.record import Record

MIB = 1 << 20

LOADED = re.compile(r"Model loading took ([\d.]+) GiB")
"""The log lines of vLLM on a GPU (from the sources of 0.26 to 0.31), here and below."""

ROOM = re.compile(r"Available KV cache memory: ([\d.]+) GiB")
TOKENS = re.compile(r"KV cache size: ([\d,]+) tokens")
GRAPHS = re.compile(r"Graph capturing finished in .* took (-?[\d.]+) GiB")


def measure(run: Run, record: Record) -> None:
    """A model that the fit check would stop is not started."""
    for shape in run.plan.fitted:
        model = run.model(shape)
        need = memory_fit.MemoryNeed(shape.name, json.loads((model / "config.json").read_text()))
        total = memory.total_mib()
        refused = memory_fit.assess_fit(need, [int(total * MIB)]) if total else None
        seen = dict.fromkeys(TOOK, "") if refused else measured(run, model)
        estimates = {
            "weights estimated, MiB": round((memory_fit.weight_bytes(need) or 0) / MIB, 1),
            "KV cache of 1,024 tokens estimated, MiB": round(memory_fit.kv_bytes(need, 1024) / MIB, 2),
        }
        answer = refused.reason if refused else "fits"
        record.put({"model": shape.name, "fit check": answer, **estimates, **seen})


TOOK = ("loaded, MiB", "1,024 tokens took, MiB", "CUDA graphs, MiB", "all memory, MiB", "the rest, MiB")
"""Columns of vLLM's memory. The rest is all memory without weights and KV cache; "" is a value that is not logged."""


def measured(run: Run, model: Path) -> dict[str, str | float]:
    """The memory of a server of this model, by TOOK."""
    given = float(run.plan.variables.get("KV_CACHE_MEMORY_BYTES", "0M").removesuffix("M"))
    with composed(run.environment(model, LOAD_FORMAT="dummy")) as server:
        ops.complete(server)
        return took(server.log(), memory.used_mib(server), given)


def took(log: str, used: float, given: float) -> dict[str, str | float]:
    """The columns of TOOK by what vLLM logged; `used` is all memory, `given` the size set for the KV cache; in MiB."""
    loaded, room, graphs = (found_gib(pattern, log) for pattern in (LOADED, ROOM, GRAPHS))
    tokens = float(found[1].replace(",", "")) if (found := TOKENS.search(log)) else 0.0
    cache = room or given
    values = (
        round(loaded, 1) if loaded else "",
        round(cache / tokens * 1024, 2) if tokens else "",
        round(graphs, 1) if graphs else "",
        round(used),
        round(used - loaded - cache) if loaded and cache else "",
    )
    return dict(zip(TOOK, values, strict=True))


def found_gib(pattern: re.Pattern[str], log: str) -> float:
    """A number of GiB in the log, in MiB; 0 where it is not."""
    return float(found[1]) * 1024 if (found := pattern.search(log)) else 0.0
