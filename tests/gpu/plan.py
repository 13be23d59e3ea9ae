"""How much is measured: on a GPU, and on a CPU where only the program itself is tried."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from forebay_server.config.settings import cache_environment
from tests.gpu import shapes
from tests.gpu.shapes import Shape


@dataclass(frozen=True)
class Plan:
    """The models and the amounts of one run."""

    device: str
    served: Shape
    """Answers streams; its weights are dummies."""
    started: Shape
    """Its weights are on disk, since a start loads them."""
    slept: Shape
    """Its weights are on disk, since the engine reads them again after sleep level 2."""
    fitted: tuple[Shape, ...]
    """The most useful first: the part may be truncated."""
    clients: tuple[int, ...]
    """Numbers of concurrent streams, one comparison for each."""
    tokens: int
    """Tokens of each stream of a comparison."""
    rounds: int
    """Pairs of loads at each number of clients."""
    warm_starts: int
    """Pairs of starts after the one that fills the caches."""
    drained: int
    """Streams that run at SIGTERM."""
    drained_tokens: int
    stuck_seconds: int
    """The time limit of an engine step; shorter than the default of 120."""
    variables: Mapping[str, str]
    """The variables of every server."""


GPU = Plan(
    device="cuda",
    served=shapes.LLAMA_1B,
    started=shapes.LLAMA_1B,
    slept=shapes.LLAMA_3B,
    fitted=(shapes.QWEN3_8B, shapes.QWEN2_32B, shapes.LLAMA_1B),
    clients=(1, 8, 64, 256),
    tokens=128,
    rounds=3,
    warm_starts=1,
    drained=256,
    drained_tokens=1024,
    stuck_seconds=10,
    variables={},
)

CPU = Plan(
    device="cpu",
    served=shapes.TINY,
    started=shapes.TINY,
    slept=shapes.TINY,
    fitted=(shapes.TINY_QWEN3, shapes.TINY_QWEN2),
    clients=(1, 4),
    tokens=16,
    rounds=1,
    warm_starts=0,
    drained=8,
    drained_tokens=120,
    stuck_seconds=4,
    variables={"KV_CACHE_MEMORY_BYTES": "64M", "MAX_MODEL_LEN": "2048"},
)

PLANS = {"cuda": GPU, "cpu": CPU}


@dataclass(frozen=True)
class Run:
    """One part of a run: what to measure, and its own folder for models, caches and tokens."""

    plan: Plan
    tokenizer: Path
    folder: Path

    def model(self, shape: Shape, *, weights: bool = False) -> Path:
        """The folder of a model, to be made once for each part."""
        return shapes.write(shape, self.tokenizer, self.folder, weights=weights)

    def environment(self, model: Path, **more: str) -> dict[str, str]:
        """The variables of a server of `model`, whose caches are new in each part unless BASE_PATH says otherwise."""
        name = {"MODEL_NAME": str(model), "OPENAI_SERVED_MODEL_NAME_OVERRIDE": MODEL, "HF_HUB_OFFLINE": "1"}
        variables = {**os.environ, **name, **self.plan.variables, "BASE_PATH": str(self.folder / "cache"), **more}
        return {**cache_environment(Path(variables["BASE_PATH"]), variables), **variables}


MODEL = "model"
"""The name by which every model is served."""
