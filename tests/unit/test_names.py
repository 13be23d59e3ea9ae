"""A name has one meaning in the packages, except the names that CONTRIBUTING.md lists."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cluster.pins import ROOT

PACKAGES = sorted(path for path in ROOT.glob("*/src/forebay_*") if path.is_dir() and not path.suffix)


def test_contributing_lists_the_names_of_several_modules() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("### Names in several modules")[2].partition("\n###")[0]
    listed = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in section.splitlines() if line.startswith("| `")]
    assert len(PACKAGES) == 5
    assert {name for names in listed for name in names} == _repeated_modules() | _repeated_definitions()


def _repeated_modules() -> set[str]:
    """Names of several modules, or of folders and modules."""
    folders = {source.parent for package in PACKAGES for source in package.glob("*/**/*.py")}
    return _repeated(each.stem for each in [*_modules(), *folders]) - {"__main__"}


def _repeated_definitions() -> set[str]:
    """Names that several modules define, without private names and type variables."""
    return _repeated(name for module in _modules() for name in _definitions(ast.parse(module.read_text())))


def _modules() -> list[Path]:
    return [each for package in PACKAGES for each in package.rglob("*.py") if each.stem != "__init__"]


def _definitions(module: ast.Module) -> set[str]:
    names = set()
    for node in module.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Assign(targets=targets, value=value) if "TypeVar" not in ast.unparse(value):
                names |= {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def _repeated(names: Iterator[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}
