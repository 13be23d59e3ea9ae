"""What the docs claim has a test."""

import ast
import re

from cluster.pins import ROOT
from forebay_server.compat.fill_in import TOKENS, FillIn
from forebay_server.compat.unsupported_fields import NO_EFFECT

API = ROOT / "docs/api.md"
RUNPOD = ROOT / "docs/runpod.md"


def test_each_row_of_the_comparison_with_runpod_names_a_test_that_is_there() -> None:
    table = RUNPOD.read_text().partition("## What is the same, better, and not there")[2]
    rows = re.findall(r"^\| (?:the same|better|different|not there) \|.*$", table, re.MULTILINE)
    assert len(rows) > 15
    for row in rows:
        named = re.search(r"\| `(tests/\S+\.py)::(test_\w+)` \|$", row)
        assert named, row
        assert named[2] in _functions(named[1]), row


def test_the_table_of_fields_without_effect_is_that_of_the_server() -> None:
    told: dict[str, set[tuple[str, str]]] = {}
    for name, apis, why in _rows(API.read_text(), "## Fields without effect", "Refused,"):
        for api in apis.split(", "):
            told.setdefault(f"/v1{api.strip('`')}", set()).add((name.strip("`"), why))
    assert told == {path: set(fields.items()) for path, fields in NO_EFFECT.items()}


def test_the_table_of_prompts_for_filling_in_is_that_of_the_server() -> None:
    told = dict(_rows(API.read_text(), "## Filling in", "## "))
    assert list(told.values()) == [f"`{FillIn(each, ()).render('PROMPT', 'SUFFIX')}`" for each in TOKENS.values()]
    for family, described in zip(TOKENS, told, strict=True):
        assert described.startswith(family)


def _rows(page: str, begin: str, end: str) -> list[list[str]]:
    """The cells of the first table after `begin`."""
    table = page.partition(begin)[2].partition(end)[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.replace("\\|", "|") for cell in re.split(r" (?<!\\)\| ", line[2:-2])] for line in lines[1:]]


def _functions(path: str) -> set[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, kinds)}
