"""Checks the links, anchors and tables of all Markdown pages: `python -m tests.lint.links`, a part of `make lint`.

Links to other sites are not checked, as that would need a network.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from cluster.pins import ROOT
from tests.lint.files import list_files
from tests.lint.pages import read_anchors, read_cells, read_links

ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
"""How a link with a scheme begins, such as https: or mailto:."""


MAX_CELL = 120
"""Characters of a table cell, without markup. Longer text is prose."""


def read_pages() -> dict[str, str]:
    """The Markdown pages of the repository: path and text."""
    return {path: (ROOT / path).read_text() for path in list_files() if path.endswith(".md")}


def find_broken_links(pages: Mapping[str, str], files: list[str]) -> Iterator[str]:
    """A sentence for each link that leads nowhere.

    Args:
        pages: path and text of the pages to check.
        files: paths of all files that links may lead to, the pages among them.
    """
    targets = {""} | {str(parent) for name in files for parent in (Path(name), *Path(name).parents)}
    anchors = {path: read_anchors(text) for path, text in pages.items()}
    for page, text in pages.items():
        for line, link in read_links(text):
            if ELSEWHERE.match(link):
                continue
            path, _, anchor = unquote(link).partition("#")
            target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
            if target not in targets:
                yield f"{page}:{line}: {link}: there is no {target}"
            elif anchor and target in anchors and anchor not in anchors[target]:
                yield f"{page}:{line}: {link}: {target} has no heading with the anchor {anchor}"


def find_long_cells(pages: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each table cell of more than MAX_CELL characters."""
    for page, text in pages.items():
        for line, cell in read_cells(text):
            if len(cell) > MAX_CELL:
                yield f"{page}:{line}: a cell of {len(cell)} characters, more than {MAX_CELL}: {cell[:40]}…"


def main() -> int:
    """Print what is wrong; returns the exit code."""
    pages = read_pages()
    wrong = [*find_broken_links(pages, list_files()), *find_long_cells(pages)]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
