"""Links of pages have targets, and their commands can be run."""

import ast
import re
from collections.abc import Iterator

import pytest
import yaml

from cluster.pins import ROOT
from forebay_operator.spec.parsing import parse_endpoint
from tests.lint.files import list_files
from tests.lint.links import MAX_CELL, find_broken_links, find_long_cells, read_pages
from tests.lint.pages import Block, read_anchors, read_blocks, read_cells, read_links
from tests.unit.operator.schema import PROPERTIES, find_violations

PAGES = read_pages()

FOLLOWED = sorted(page for page in PAGES if page == "README.md" or page.startswith("docs/tutorials/"))
"""Pages that a newcomer follows command by command."""

COMMAND_LANGUAGES = {"", "sh", "bash", "shell", "console"}


def test_every_link_has_a_target() -> None:
    assert list(find_broken_links(PAGES, list_files())) == []
    assert sum(len(list(read_links(page))) for page in PAGES.values()) > 100


def test_every_table_cell_is_short() -> None:
    assert list(find_long_cells(PAGES)) == []
    assert sum(len(list(read_cells(page))) for page in PAGES.values()) > 1000


@pytest.mark.parametrize(
    ("cell", "length"),
    [
        ("x" * 121, 121),
        ("x" * 120, 0),
        (f"[{'x' * 100}](architecture.md#a-long-anchor)", 0),
        (f"[{'x' * 121}](b.md)", 121),
        (f"`{'x' * 60}` **{'x' * 59}**", 0),
        (f"a \\| {'x' * 117}", 121),
    ],
    ids=["long", "short", "link", "link with a long text", "markup", "escaped bar"],
)
def test_a_table_cell_has_at_most_120_visible_characters(cell: str, length: int) -> None:
    found = list(find_long_cells({"a.md": f"| a | b |\n|---|---|\n| c | {cell} |\n```\n| {'x' * 200} |\n```"}))
    assert [each.partition(f", more than {MAX_CELL}")[0] for each in found] == (
        [f"a.md:3: a cell of {length} characters"] if length else []
    )


@pytest.mark.parametrize(
    ("link", "wrong"),
    [
        ("[a](b.md)", ""),
        ("[a](b.md#two-words)", ""),
        ("[a](#here)", ""),
        ("[a](docs)", ""),
        ("[a](docs/)", ""),
        ("[a](https://example.com/b.md#c)", ""),
        ("`[a](c.md)`", ""),
        ("```\n[a](c.md)\n```", ""),
        ("[a](c.md)", "a.md:2: c.md: there is no c.md"),
        ("[a](../b.md)", "a.md:2: ../b.md: there is no ../b.md"),
        ("![a](docs/c.svg 'title')", "a.md:2: docs/c.svg: there is no docs/c.svg"),
        ("[`a`]: c.md", "a.md:2: c.md: there is no c.md"),
        ("[a](b.md#one)", "a.md:2: b.md#one: b.md has no heading with the anchor one"),
        ("[a](#there)", "a.md:2: #there: a.md has no heading with the anchor there"),
    ],
)
def test_a_broken_link_is_found(link: str, wrong: str) -> None:
    pages = {"a.md": f"# Here\n{link}\n", "b.md": "# Two words\n```\n# one\n```\n", "docs/c.md": ""}
    assert list(find_broken_links(pages, list(pages))) == ([wrong] if wrong else [])


def test_anchors_are_computed_like_githubs() -> None:
    page = "# `make demo`, and more\n## What's [new](x.md)?\n## New\n## New ##\n"
    assert read_anchors(page) == {"make-demo-and-more", "whats-new", "new", "new-1"}


@pytest.mark.parametrize("index", ["README.md", "docs/README.md"])
def test_an_index_links_to_every_page(index: str) -> None:
    linked = {link.partition("#")[0].removeprefix("docs/").rstrip("/") for _, link in read_links(PAGES[index])}
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")} - {index.removeprefix("docs/")}
    missing = {page for page in pages if page not in linked and page.rpartition("/")[0] not in linked}
    assert missing == set(), f"add these pages of docs/ to {index}"


def read_commands() -> Iterator[tuple[str, Block]]:
    """The blocks of commands in the pages that a newcomer follows."""
    for page in FOLLOWED:
        for block in read_blocks(PAGES[page]):
            if block.language in COMMAND_LANGUAGES:
                yield page, block


@pytest.mark.parametrize(
    ("page", "block"), [pytest.param(*each, id=f"{each[0]}:{each[1].line}") for each in read_commands()]
)
def test_every_block_of_commands_names_its_test(page: str, block: Block) -> None:
    """By a comment before it, "tested by FILE::TEST" or "not tested: REASON". Output alone is a block of `text`."""
    named = re.fullmatch(r"tested by (tests/\S+\.py)::(test_\w+)", block.comment)
    if named:
        module = ast.parse((ROOT / named[1]).read_text())
        assert named[2] in {node.name for node in ast.walk(module) if isinstance(node, ast.FunctionDef)}
    else:
        assert re.fullmatch(r"not tested: \w.+", block.comment), "name the test of this block"


def read_manifests() -> Iterator[tuple[str, dict[str, object]]]:
    """The InferenceEndpoints that pages show: as blocks of YAML, and in commands that apply them."""
    for page, text in PAGES.items():
        for block in read_blocks(text):
            heredocs = re.findall(r"<<'?END'?\n(.*?)\nEND\b", block.content, re.DOTALL)
            for shown in [block.content] if block.language == "yaml" else heredocs:
                for manifest in yaml.safe_load_all(shown):
                    if isinstance(manifest, dict) and manifest.get("kind") == "InferenceEndpoint":
                        yield f"{page}:{block.line}", manifest


def test_every_endpoint_that_a_page_shows_is_valid() -> None:
    shown = list(read_manifests())
    assert {place.partition(":")[0] for place, _ in shown} >= set(FOLLOWED)
    for place, manifest in shown:
        assert list(find_violations(PROPERTIES["spec"], manifest["spec"], place)) == []
        metadata = manifest["metadata"]
        assert isinstance(metadata, dict), place
        parse_endpoint({**manifest, "metadata": {"namespace": "default", "uid": place, **metadata}})


def test_the_chart_has_every_value_that_a_page_sets() -> None:
    values = yaml.safe_load((ROOT / "charts/forebay/values.yaml").read_text())
    names = {name for page in FOLLOWED for name in re.findall(r"--set(?:-string)?[ =]([\w.]+)", PAGES[page])}
    assert "image.repository" in names
    for name in names:
        found = values
        for part in name.split("."):
            assert part in found, name
            found = found[part]
