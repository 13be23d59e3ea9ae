"""Reads Markdown pages: their links, anchors, tables and blocks of code.

`links.py` checks links and tables, tests/unit/test_links.py checks blocks, and tests/e2e/test_tutorials.py runs some.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})\s*(\S*)")
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)(?:\s+#+)?\s*$")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)")
DEFINITION = re.compile(r"^ {0,3}\[[^\]]*\]:\s*<?([^\s>]+)")
INLINE_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
HTML_ANCHOR = re.compile(r"<a\s[^>]*(?:id|name)=[\"']([^\"']+)[\"']")
CELL_END = re.compile(r"(?<!\\)\|")
MARKUP = re.compile(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])|<[^>]+>|[`*]|\\(?=[|<>*_])")
"""Markup that a reader does not see. Its group is the visible text of a link."""

COMMENT = re.compile(r"^\s*<!--\s*(.*?)\s*-->\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        line: number of its first fence, from 1.
        language: the word after the fence, or "".
        comment: the HTML comment in the line above, or "". It says what tests the block.
        content: the lines between the fences.
    """

    line: int
    language: str
    comment: str
    content: str


def read_blocks(page: str) -> list[Block]:
    """The blocks of a page, in their order."""
    return [item for item in _split(page) if isinstance(item, Block)]


def read_links(page: str) -> Iterator[tuple[int, str]]:
    """The line and the target of each link and image, outside of code."""
    for number, line in _read_prose(page):
        text = INLINE_CODE.sub("", line)
        for found in (*LINK.finditer(text), *DEFINITION.finditer(text)):
            yield number, found[1]


def read_anchors(page: str) -> set[str]:
    """What a link to the page may have after "#": the headings, as GitHub turns them into ids, and HTML anchors."""
    anchors, seen = set[str](), Counter[str]()
    for _, line in _read_prose(page):
        anchors.update(HTML_ANCHOR.findall(line))
        if heading := HEADING.match(line):
            slug = _slugify(heading[1])
            anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return anchors


def read_cells(page: str) -> Iterator[tuple[int, str]]:
    """The line and the text of each table cell, as a reader sees it."""
    for number, line in _read_prose(page):
        if line.lstrip().startswith("|"):
            for cell in CELL_END.split(line.strip().strip("|")):
                yield number, MARKUP.sub(r"\1", cell).strip()


def _slugify(heading: str) -> str:
    """The id that GitHub gives a heading: https://github.com/Flet/github-slugger."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def _read_prose(page: str) -> Iterator[tuple[int, str]]:
    return (item for item in _split(page) if not isinstance(item, Block))


def _split(page: str) -> Iterator[Block | tuple[int, str]]:
    """The page as blocks of code, and lines of anything else with their numbers."""
    fence, comment = "", ""
    begin, language, content = 0, "", list[str]()
    for number, line in enumerate(page.splitlines(), 1):
        found = FENCE.match(line)
        if not fence and found:
            fence, language, begin, content = found[1], found[2], number, []
        elif fence and found and found[1].startswith(fence) and not found[2]:
            yield Block(begin, language, comment, "\n".join(content))
            fence, comment = "", ""
        elif fence:
            content.append(line)
        else:
            if line.strip():
                comment = said[1] if (said := COMMENT.match(line)) else ""
            yield number, line
