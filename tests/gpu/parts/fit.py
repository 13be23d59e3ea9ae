"""The estimates of fit.py against what vLLM really takes, for models of several sizes with dummy weights."""

import json
import re
from pathlib import Path

from bench.servers import Server, composed
from forebay_server import fit
from tests.gpu import memory, ops
from tests.gpu.plan import Run
from tests.gpu.record import Record
from tests.gpu.shapes import Shape

MIB = 1 << 20

LOADED = re.compile(r"Model loading took ([\d.]+) GiB")
"""What vLLM (0.20 to 0.33) logs of the weights, with what loading them left behind."""

ROOM = re.compile(r"Available KV cache memory: ([\d.]+) GiB")
TOKENS = re.compile(r"KV cache size: ([\d,]+) tokens")
GRAPHS = re.compile(r"Graph capturing finished in .* took (-?[\d.]+) GiB")


def measure(run: Run, record: Record) -> None:
    """The smallest first."""
    for shape in run.plan.fitted:
        model = run.model(shape)
        with composed(run.environment(model, LOAD_FORMAT="dummy")) as server:
            ops.complete(server)
            record.put({"model": shape.name, **compare(run, shape, model, server)})


def compare(run: Run, shape: Shape, model: Path, server: Server) -> dict[str, str | float]:
    """The estimate beside what the running server took, in MiB; "" for what vLLM does not log."""
    wish = fit.Wish(shape.name, json.loads((model / "config.json").read_text()))
    weights = (fit.weight_bytes(wish) or 0) / MIB
    thousand = fit.kv_bytes(wish, 1024) / MIB
    log = server.log()
    loaded, room, graphs = (found_gib(pattern, log) for pattern in (LOADED, ROOM, GRAPHS))
    tokens = float(found[1].replace(",", "")) if (found := TOKENS.search(log)) else 0.0
    cache = room or float(run.plan.variables.get("KV_CACHE_MEMORY_BYTES", "0M").removesuffix("M"))
    used = memory.used_mib(server)
    refused = fit.judge(wish, [int(total * MIB)]) if (total := memory.total_mib()) else None
    return {
        "weights estimated, MiB": round(weights, 1),
        "loaded, MiB": round(loaded, 1) if loaded else "",
        "KV cache of 1,024 tokens estimated, MiB": round(thousand, 2),
        "taken, MiB": round(cache / tokens * 1024, 2) if tokens else "",
        "CUDA graphs, MiB": round(graphs, 1) if graphs else "",
        "all memory, MiB": round(used),
        "neither weights nor cache, MiB": round(used - loaded - cache) if loaded and cache else "",
        "fit check": refused.reason if refused else "fits",
    }


def found_gib(pattern: re.Pattern[str], log: str) -> float:
    """A number of GiB in the log, in MiB; 0 where it is not."""
    return float(found[1]) * 1024 if (found := pattern.search(log)) else 0.0
