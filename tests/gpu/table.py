"""The results in a folder as Markdown, for docs/performance.md. Standard library only."""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.gpu.record import Measurement, shown


def markdown(folder: Path) -> str:
    """A heading, a line about the machine and the tables of each PART.json in `folder`, the oldest first."""
    parts = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return "\n\n".join(section(part) for part in sorted(parts, key=lambda part: part["about"]["began"]))


def section(part: dict[str, Any]) -> str:
    """One part."""
    about = ", ".join(f"{name} {value}" for name, value in part["about"].items() if value)
    head = f"### {part['part']}\n\n{part['state']} after {part['seconds']} s. {about}."
    groups = groupby(part["measurements"], key=list)
    return "\n\n".join([head, *(table(columns, list(rows)) for columns, rows in groups)])


def table(columns: Sequence[str], rows: Sequence[Measurement]) -> str:
    """Measurements with the same columns."""
    lines = [columns, ["---"] * len(columns), *([shown(row[column]) for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
