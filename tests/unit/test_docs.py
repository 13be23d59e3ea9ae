"""What the docs claim has a test."""

import ast
import re

from cluster.pins import ROOT

RUNPOD = ROOT / "docs/runpod.md"


def test_each_row_of_the_comparison_with_runpod_names_a_test_that_is_there() -> None:
    table = RUNPOD.read_text().partition("## What is the same, better, and not there")[2]
    rows = re.findall(r"^\| (?:the same|better|different|not there) \|.*$", table, re.MULTILINE)
    assert len(rows) > 15
    for row in rows:
        named = re.search(r"\| `(tests/\S+\.py)::(test_\w+)` \|$", row)
        assert named, row
        assert named[2] in _functions(named[1]), row


def _functions(path: str) -> set[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, kinds)}
