"""The stages of `make test`: their commands, dependencies and lanes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

PYTHON = sys.executable

SHORT = "not whole and not soak and not rights"
"""The marker expression without the tests that only `make conformance`, `make soak` or the stage rights run."""


@dataclass(frozen=True)
class Stage:
    """One row of the final table.

    Attributes:
        command: counts one check, unless it is pytest's, which counts its tests.
        lane: stages of one lane run one after another, lanes side by side.
        needs: stages that must have succeeded before this one begins.
        after: selected stages that must have ended before this one begins: both would use all cores.
        gates: a failure here ends the whole run at once.
        yields: runs at a lower priority than the other lane's stages, whose tests depend on time.
        cleans_up: runs after the others of its lane even if they failed, and counts no check.
    """

    name: str
    command: tuple[str, ...]
    lane: str = "host"
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    gates: bool = False
    yields: bool = False
    cleans_up: bool = False

    @property
    def is_pytest(self) -> bool:
        return "pytest" in self.command


def pytest(*arguments: str, workers: int = 0) -> tuple[str, ...]:
    """A pytest command. With workers, the tests of a file, or of a group of files, stay on one of them."""
    spread = ("-n", str(workers), "--dist=loadscope", "--no-loadscope-reorder", "-p", "tests.spread") if workers else ()
    return (PYTHON, "-m", "pytest", "-v", "--color=no", "--durations=12", *spread, *arguments)


STAGES = (
    Stage("ruff", (PYTHON, "-m", "ruff", "check"), gates=True),
    Stage("format", (PYTHON, "-m", "ruff", "format", "--check"), gates=True),
    Stage("imports", (str(Path(PYTHON).with_name("lint-imports")), "--no-cache", "--no-logo"), gates=True),
    Stage("types", (PYTHON, "-m", "mypy"), gates=True),
    Stage("links", (PYTHON, "-m", "tests.lint.links"), gates=True),
    Stage("words", (PYTHON, "-m", "tests.lint.words"), gates=True),
    Stage("unit", pytest("tests/unit", workers=2), gates=True),
    Stage("integration", pytest("tests/integration", "-m", SHORT, workers=4), needs=("tools",), yields=True),
    Stage("rights", pytest("tests/integration/test_rights.py", "-m", "rights"), needs=("integration",)),
    Stage("conformance", pytest("tests/conformance", "-m", SHORT), needs=("cluster",), yields=True),
    Stage("vllm", (PYTHON, "-m", "tests.vllm", "-m", "gate"), needs=("cluster",), after=("e2e",), yields=True),
    Stage("tools", (PYTHON, "-m", "cluster", "tools"), lane="kind"),
    Stage("cluster", (PYTHON, "-m", "tests.e2e.cluster", "up"), lane="kind", needs=("tools",)),
    Stage("e2e-installs", pytest("tests/e2e", "-m", f"{SHORT} and installs"), lane="kind", needs=("cluster",)),
    Stage(
        "e2e",
        pytest("tests/e2e", "-m", f"{SHORT} and not installs and not kills", workers=3),
        lane="kind",
        needs=("cluster",),
        after=("integration",),
    ),
    Stage("e2e-kills", pytest("tests/e2e", "-m", f"{SHORT} and kills"), lane="kind", needs=("cluster",)),
    Stage("cluster-down", (PYTHON, "-m", "tests.e2e.cluster", "down"), lane="kind", cleans_up=True),
)
"""All stages, in the order in which their lane runs them."""


def choose(names: tuple[str, ...]) -> tuple[Stage, ...]:
    """The stages of these names, with their dependencies; all stages without names.

    Raises:
        KeyError: a name is unknown.
    """
    if not names:
        return STAGES
    by_name = {stage.name: stage for stage in STAGES}
    wanted: set[str] = set()
    asked = list(names)
    while asked:
        name = asked.pop()
        wanted.add(name)
        asked += by_name[name].needs
    if "cluster" in wanted:
        wanted.add("cluster-down")
    return tuple(stage for stage in STAGES if stage.name in wanted)
