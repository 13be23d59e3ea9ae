"""Checks that texts and names use the words of the field: `python -m tests.lint.words [FILE…]`, a part of `make lint`.

`words.toml` is the table of words and replacements. `texts.py` finds the texts.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.pins import ROOT
from tests.lint.files import list_files
from tests.lint.texts import Text, find_names, find_texts

TABLE = Path(__file__).with_name("words.toml")

SHOWN = 30
"""How many findings are printed. The rest is counted."""


@dataclass(frozen=True)
class Rule:
    """A row of the table.

    Attributes:
        pattern: what a text must not contain. A space in it matches any white space.
        use: what to write instead.
        allowed: a match is no finding where one of these covers it.
        where: the paths in which the rule holds.
        of: the kinds of text in which it holds: "texts", "names", or both.
    """

    pattern: re.Pattern[str]
    use: str
    allowed: tuple[re.Pattern[str], ...]
    where: re.Pattern[str]
    of: frozenset[str]

    def find(self, text: str) -> Iterator[re.Match[str]]:
        """The matches in a text that no exception covers."""
        allowed = [each.span() for pattern in self.allowed for each in pattern.finditer(text)]
        for found in self.pattern.finditer(text):
            if not any(begin <= found.start() and found.end() <= end for begin, end in allowed):
                yield found


@dataclass(frozen=True)
class Finding:
    """A word that is to be replaced."""

    path: str
    line: int
    word: str
    use: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word}: use {self.use}"


@dataclass(frozen=True)
class Table:
    """The content of `words.toml`.

    Attributes:
        skipped: files that are not checked, because others wrote them or they quote what others write.
        messages: the paths of Python programs whose strings are checked, and not only comments and docstrings.
        names: the paths of Python programs whose names of functions and classes are checked.
    """

    rules: tuple[Rule, ...]
    skipped: re.Pattern[str]
    messages: re.Pattern[str]
    names: re.Pattern[str]

    def check(self, path: str, content: str) -> list[Finding]:
        """The findings in a file, in the order of its lines."""
        if self.skipped.search(path):
            return []
        findings = [
            Finding(path, text.line + text.content.count("\n", 0, found.start()), " ".join(found[0].split()), rule.use)
            for kind, text in self._read(path, content)
            for rule in self.rules
            if kind in rule.of and rule.where.search(path)
            for found in rule.find(text.content)
        ]
        return sorted(findings, key=lambda finding: finding.line)

    def _read(self, path: str, content: str) -> Iterator[tuple[str, Text]]:
        for text in find_texts(path, content, with_messages=bool(self.messages.search(path))):
            yield "texts", text
        if self.names.search(path):
            for name in find_names(path, content):
                yield "names", name


def read_table(text: str) -> Table:
    """Parse the table.

    Raises:
        KeyError: a row lacks `not` or `use`.
        re.error: a pattern is no regular expression.
    """
    table = tomllib.loads(text)
    rules = tuple(map(_read_rule, table["rule"]))
    skipped = re.compile("|".join(table["skipped"]) or r"(?!)")
    return Table(rules, skipped, re.compile(table.get("messages", "")), re.compile(table.get("names", "")))


def _read_rule(row: dict[str, Any]) -> Rule:
    allowed = tuple(_compile(pattern) for pattern in row.get("except", ()))
    of = frozenset({row["of"]} if "of" in row else {"texts", "names"})
    return Rule(_compile(row["not"]), row["use"], allowed, re.compile(row.get("where", "")), of)


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])".replace(" ", r"\s+"))


def read_files(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The path and the content of each file; with names, as list_files takes them. Links to files are skipped."""
    for name in list_files(names):
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            yield name, path.read_text(errors="replace")


def report(findings: Sequence[Finding], shown: int) -> str:
    """The first findings, and how many there are in each folder."""
    folders = Counter("/".join(Path(each.path).parts[:-1][:2]) or "." for each in findings)
    lines = [str(finding) for finding in findings[:shown]]
    if len(findings) > shown:
        lines.append(f"… and {len(findings) - shown} more; python -m tests.lint.words --all shows them")
    counted = ", ".join(f"{folder} {count}" for folder, count in sorted(folders.items()))
    lines.append(f"{len(findings)} words to replace{': ' if counted else ''}{counted}")
    return "\n".join(lines)


def main() -> int:
    """Check the files; 0 if nothing is found."""
    parser = argparse.ArgumentParser(prog="python -m tests.lint.words", description="Check the words of all texts.")
    parser.add_argument("files", nargs="*", metavar="FILE", help="check only these files and folders")
    parser.add_argument("--all", action="store_true", help=f"show every finding, not only the first {SHOWN}")
    asked = parser.parse_args()
    table = read_table(TABLE.read_text())
    findings = [each for path, content in read_files(asked.files) for each in table.check(path, content)]
    print(report(findings, len(findings) if asked.all else SHOWN))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
