"""Finds the English texts of the repository: pages, descriptions, comments, docstrings, messages and names.

`words.py` calls `find_texts` and `find_names` for each file and checks what they yield.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lint.pages import INLINE_CODE

PROSE = {".md", ".txt", ".yaml", ".yml", ".json", ".tpl"}
"""Endings of files that are checked as a whole: pages, CRD descriptions, chart values, NOTES."""

COMMENT_MARKS = {".lua": "--", ".go": "//", ".mjs": "//", ".toml": "#", ".sh": "#", "": "#"}
"""Endings of files of which only comments are checked, and what a comment begins with. "" is Makefile, Dockerfile …"""

NO_TEXT = re.compile(rf"{INLINE_CODE.pattern}|(?s:```.*?(?:```|\Z))|https?://\S+")
"""Quoted code and addresses."""

CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
"""Where a new word begins in the name of a class."""

INDENT = re.compile(r"\n[ \t]+")


@dataclass(frozen=True)
class Text:
    """One text: the lines of a paragraph, or a message.

    Attributes:
        line: number of its first line in the file, from 1.
        content: with the line breaks of the file, and without indents. Quoted code is replaced by underscores.
    """

    line: int
    content: str


def find_texts(path: str, content: str, *, with_messages: bool = True) -> Iterator[Text]:
    """The texts of a file.

    Args:
        path: relative to the repository. Its ending says what is a text.
        content: of the file.
        with_messages: whether the strings of a Python program are texts too, and not only comments and docstrings.
    """
    suffix = Path(path).suffix
    found: Iterable[Text] = []
    if suffix == ".py":
        found = _find_in_python(content, with_messages)
    elif suffix in PROSE:
        found = [Text(1, re.sub(r"^( *)#", r"\1 ", content, flags=re.MULTILINE))]
    elif (mark := COMMENT_MARKS.get(suffix)) is not None:
        found = _join_comments(_find_comments(content, mark))
    for text in found:
        yield Text(text.line, INDENT.sub("\n", NO_TEXT.sub(_blank, text.content)))


def find_names(path: str, content: str) -> Iterator[Text]:
    """The names of the functions and classes of a Python program, as words: `NoPortLeft` is "no port left"."""
    if Path(path).suffix != ".py":
        return
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield Text(node.lineno, CAPITAL.sub("_", node.name).strip("_").replace("_", " ").lower())


def _find_in_python(content: str, with_messages: bool) -> Iterator[Text]:
    """Comments, docstrings (also of attributes) and, if wanted, every other string with a space in it."""
    tokens = tokenize.generate_tokens(io.StringIO(content).readline)
    comments = ((token.start[0], token.string[1:]) for token in tokens if token.type == tokenize.COMMENT)
    yield from _join_comments(comments)
    nodes: list[ast.AST] = [ast.parse(content)]
    while nodes:
        match node := nodes.pop():
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield Text(node.lineno, text)
            case ast.Constant(value=str(text)) if with_messages and " " in text:
                yield Text(node.lineno, text)
            case ast.JoinedStr(values=parts) if with_messages:
                yield Text(node.lineno, "".join(map(_read_part, parts)))
                nodes += [part for part in parts if isinstance(part, ast.FormattedValue)]
            case _:
                nodes += ast.iter_child_nodes(node)


def _read_part(part: ast.expr) -> str:
    """A part of an f-string, "…" for a value."""
    return str(part.value) if isinstance(part, ast.Constant) else "…"


def _find_comments(content: str, mark: str) -> Iterator[tuple[int, str]]:
    comment = re.compile(rf"(?:^|\s){re.escape(mark)}+ (.*)")
    for number, line in enumerate(content.splitlines(), 1):
        if found := comment.search(line):
            yield number, found[1]


def _join_comments(comments: Iterable[tuple[int, str]]) -> Iterator[Text]:
    """Comments on lines that follow each other are one text, since a sentence may go on from one to the next."""
    block: list[str] = []
    begin = 0
    for number, comment in comments:
        if block and number != begin + len(block):
            yield Text(begin, "\n".join(block))
            block = []
        if not block:
            begin = number
        block.append(comment)
    if block:
        yield Text(begin, "\n".join(block))


def _blank(quoted: re.Match[str]) -> str:
    """Underscores in place of a quotation. Line breaks stay, so that the numbers of lines stay right."""
    return re.sub(r"\S", "_", quoted[0])
