"""The check of words finds them in every kind of text, at the right line, and in nothing else."""

import pytest

from cluster.pins import ROOT
from tests.lint.words import TABLE, read_files, read_table, report

MEND = read_table("""
skipped = ['^vendor/']
messages = '^(?!tests/)'
names = '^server/'
[[rule]]
not = '[Mm]ends?'
use = '"repair"'
[[rule]]
not = 'left out'
use = '"omit"'
except = ['tools left out']
[[rule]]
not = 'anew'
use = '"again"'
where = '^docs/'
[[rule]]
of = 'names'
not = 'asks?'
use = '"request"'
except = ['^ask once$']
[[rule]]
of = 'texts'
not = 'who is'
use = '"a client that"'
""")


def find(path: str, content: str) -> list[str]:
    return [f"{finding.line} {finding.word}" for finding in MEND.check(path, content)]


@pytest.mark.parametrize(
    ("path", "content", "found"),
    [
        pytest.param("docs/a.md", "One.\n\nTwo mends\n", ["3 mends"], id="page"),
        pytest.param(
            "docs/a.md", "A field left\nout, and one left  out.", ["1 left out", "2 left out"], id="line break"
        ),
        pytest.param(
            "docs/a.md", "`mend` and\n```\nmend\n```\nhttps://x/mend\n[mend](b.md)", ["6 mend"], id="quoted code"
        ),
        pytest.param("docs/a.md", "amend mending mend-it", [], id="part of a word"),
        pytest.param("docs/a.md", "tools left out, and left out", ["1 left out"], id="exception"),
        pytest.param("docs/a.md", "Begin anew.", ["1 anew"], id="in its folder"),
        pytest.param("server/a.md", "Begin anew.", [], id="in another folder"),
        pytest.param("vendor/a.md", "Mend it.", [], id="skipped"),
        pytest.param(
            "crds/a.yaml", "a:\n  # left\n  # out\n  description: Mend it.\n", ["2 left out", "4 Mend"], id="YAML"
        ),
        pytest.param(
            "a/jobs.lua", "local mend = 1 -- left\n-- out\nmend()\n-- mend", ["1 left out", "4 mend"], id="Lua"
        ),
        pytest.param("Makefile", "mend: ## Mend it\n", ["1 Mend"], id="Makefile"),
        pytest.param("server/a.py", '"""Title.\n\nMend it.\n"""\n', ["3 Mend"], id="docstring"),
        pytest.param("server/a.py", 'A = 1\n"""Left, or mend."""\n', ["2 mend"], id="docstring of an attribute"),
        pytest.param("server/a.py", "mend = 1  # left\n# out\n", ["1 left out"], id="comment"),
        pytest.param("server/a.py", 'raise E("mend it")\nE["mend"]\n', ["1 mend"], id="message, and a key"),
        pytest.param("server/a.py", """f"left {mend('mend it')} mends out"\n""", ["1 mends", "1 mend"], id="f-string"),
        pytest.param("tests/a.py", '"""Mend."""\nassert x == "mend it"  # mend\n', ["1 Mend", "2 mend"], id="test"),
        pytest.param("server/a.py", "class Mend:\n    def _left_out(self): ...", ["1 mend", "2 left out"], id="names"),
        pytest.param("server/a.py", "def ask(): ...\n\nclass AskNow: ...", ["1 ask", "3 ask"], id="rule of names"),
        pytest.param("server/a.py", "def _ask_once(): ...\n\ndef who_is(): ...", [], id="exception, rule of texts"),
        pytest.param("server/a.py", '"""Asks, and they ask."""', [], id="text of a rule of names"),
        pytest.param("tests/a.py", "def test_ask_mends(): ...", [], id="names that are not checked"),
        pytest.param("a/data.bin", "mend", [], id="another kind of file"),
    ],
)
def test_words_are_found_in_texts_and_not_in_code(path: str, content: str, found: list[str]) -> None:
    assert find(path, content) == found


def test_a_long_report_is_cut_and_counts_by_folder() -> None:
    findings = MEND.check("docs/a.md", "mend\n" * 3) + MEND.check("server/src/x/b.md", "mend")
    assert report(findings, 2).splitlines() == [
        'docs/a.md:1: mend: use "repair"',
        'docs/a.md:2: mend: use "repair"',
        "… and 2 more; python -m tests.lint.words --all shows them",
        "4 words to replace: docs 3, server/src 1",
    ]
    assert report([], 2) == "0 words to replace"


def test_the_table_finds_its_words_and_accepts_the_replacement() -> None:
    table = read_table(TABLE.read_text())
    private = "Whoever mends it is told anew, by itself. What is left out, nobody reads. None of them leaves."
    private += " They are gone, at a steady pace."
    words = {
        "Whoever",
        "mends",
        "told",
        "anew",
        "by itself",
        "What is",
        "left out",
        "nobody",
        "None",
        "are gone",
        "pace",
    }
    plain = (
        "A caller\n  who can reach it.\n| What happens | What it limits |\n\n"
        "The operator repairs it, so long work starts again.\n"
        "Which fields does no client read? Values are None."
    )
    assert {finding.word for finding in table.check("docs/a.md", private)} == words
    assert table.check("docs/a.md", plain) == []


def test_files_of_every_kind_are_checked() -> None:
    files = {name for name, _ in read_files([]) if not read_table(TABLE.read_text()).skipped.search(name)}
    assert files >= {
        "README.md",
        "Makefile",
        "crds/inferenceendpoints.forebay.dev.yaml",
        "charts/forebay/values.yaml",
        "charts/forebay/templates/NOTES.txt",
        "gateway/src/forebay_gateway/jobs/jobs.lua",
        "operator/src/forebay_operator/app.py",
        "tests/unit/test_docs.py",
    }
    assert not any((ROOT / name).is_symlink() for name in files)
