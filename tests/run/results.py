"""The results of the stages of a run, from pytest's files, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree


@dataclass(frozen=True)
class Failure:
    """A check that failed. `where` is a test or a stage; `why` is the first line of the reason."""

    where: str
    why: str


@dataclass(frozen=True)
class Result:
    """The result of one stage. `wall` and `cpu` are seconds."""

    name: str
    wall: float = 0.0
    cpu: float = 0.0
    passed: int = 0
    skipped: int = 0
    failures: tuple[Failure, ...] = ()


def read_junit(path: Path) -> tuple[int, int, tuple[Failure, ...]]:
    """The passed, the skipped and the failures in a file of pytest's `--junitxml`; empty if the file is missing."""
    if not path.is_file():
        return 0, 0, ()
    failures, passed, skipped = [], 0, 0
    for case in ElementTree.parse(path).iter("testcase"):
        wrong = [each for kind in ("failure", "error") for each in case.findall(kind)]
        failures += [Failure(name_of(case), first_line(each.get("message", ""))) for each in wrong]
        if not wrong:
            skipped += case.find("skipped") is not None
            passed += case.find("skipped") is None
    return passed, skipped, tuple(failures)


def name_of(case: ElementTree.Element) -> str:
    """The name of a test as people search for it."""
    return "::".join(filter(None, (case.get("classname"), case.get("name"))))


def first_line(text: str) -> str:
    """The first line that is not empty, at most 200 characters of it."""
    return next((line.strip()[:200] for line in text.splitlines() if line.strip()), "no reason is given")


def minutes(seconds: float) -> str:
    """A duration as the table has it, such as "3m05s"."""
    return f"{int(seconds) // 60}m{int(seconds) % 60:02d}s"


def draw_table(results: Sequence[Result], wall: float, cpu: float, cores: int) -> str:
    """Rows of stages with their time, then one for all containers, then the whole run: `cpu` is the machine's."""
    head = ("stage", "wall", "CPU", "passed", "failed", "skipped")
    rows: list[tuple[str | int, ...]] = [
        (each.name, minutes(each.wall), minutes(each.cpu), each.passed, len(each.failures), each.skipped)
        for each in results
    ]
    others = max(0.0, cpu - sum(each.cpu for each in results))
    passed, failed, skipped = count(results)
    busy = 100 * cpu / (wall * cores) if wall else 0.0
    rows += [
        ("containers and others", "", minutes(others), "", "", ""),
        (f"all, {busy:.0f} % of {cores} cores busy", minutes(wall), minutes(cpu), passed, failed, skipped),
    ]
    texts = [tuple(map(str, row)) for row in (head, *rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(head))]
    lines = []
    for first, *rest in texts:
        cells = [first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def count(results: Sequence[Result]) -> tuple[int, int, int]:
    """The passed, failed and skipped of all stages."""
    return (
        sum(each.passed for each in results),
        sum(len(each.failures) for each in results),
        sum(each.skipped for each in results),
    )
