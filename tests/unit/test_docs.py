"""Every claim of the docs has a test."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.pins import ROOT
from forebay_gateway.jobs.submission import read_submission
from forebay_protocol.errors import WRONG_KEY, ApiDialect
from forebay_server.api_compat.fill_in import TOKENS, FillIn
from forebay_server.api_compat.paths import CHAT, COMPLETIONS
from forebay_server.api_compat.request_fields import adapt_fields
from forebay_server.api_compat.unsupported_fields import NO_EFFECT
from forebay_server.jobs.calls import Form, call_of

API = ROOT / "docs/api.md"
CONFIGURATION = ROOT / "docs/configuration.md"
RUNPOD = ROOT / "docs/runpod.md"


def test_each_row_of_the_comparison_with_runpod_names_an_existing_test() -> None:
    table = RUNPOD.read_text().partition("## Compatibility with RunPod")[2]
    rows = re.findall(r"^\| (?:Same|Better|Different|Not supported) \|.*$", table, re.MULTILINE)
    assert len(rows) > 15
    assert len(rows) == table.count("\n| ") - 1, "all rows except the head begin with one of these"
    for row in rows:
        named = re.search(r"\| `(tests/\S+\.py)::(test_\w+)` \|$", row)
        assert named, row
        assert named[2] in _functions(named[1]), row


def test_the_table_of_ignored_fields_matches_the_server() -> None:
    documented: dict[str, set[tuple[str, str]]] = {}
    for name, apis, why in _rows(API.read_text(), "## Ignored fields", "\n## "):
        for api in apis.split(", "):
            documented.setdefault(f"/v1{api.strip('`')}", set()).add((name.strip("`"), why))
    assert documented == {path: set(fields.items()) for path, fields in NO_EFFECT.items()}


def test_the_examples_of_structured_outputs_are_equivalent() -> None:
    section = API.read_text().partition("## Structured outputs")[2].partition("\n## ")[0]
    for (older, newer), path in zip(_json_blocks(section), (COMPLETIONS, CHAT), strict=True):
        assert adapt_fields(path, older) == newer == adapt_fields(path, newer)


def test_the_examples_of_errors_match_the_responses() -> None:
    section = API.read_text().partition("## Errors")[2].partition("\n## ")[0]
    assert list(_json_blocks(section)) == [[WRONG_KEY.content()], [WRONG_KEY.content(ApiDialect.ANTHROPIC)]]


def test_the_examples_of_jobs_are_accepted() -> None:
    jobs = [each for block in _json_blocks(RUNPOD.read_text()) for each in block if "input" in each]
    assert [{"policy"}, {"webhook"}] == [each.keys() - {"input"} for each in jobs]
    for each in jobs:
        read_submission(json.dumps(each).encode(), sync=False)
    inputs = [each["input"] for block in _json_blocks(CONFIGURATION.read_text()) for each in block if "input" in each]
    assert {call_of(each).form for each in inputs} == {Form.TOKENS, Form.OPENAI, Form.ROUTE}


def test_the_table_of_fill_in_prompts_matches_the_server() -> None:
    documented = dict(_rows(API.read_text(), "## Fill-in-the-middle", "\n## "))
    assert list(documented.values()) == [f"`{FillIn(each, ()).render('PROMPT', 'SUFFIX')}`" for each in TOKENS.values()]
    for family, described in zip(TOKENS, documented, strict=True):
        assert described.startswith(family)


SOURCES = [
    *(ROOT / f"protocol/src/forebay_protocol/{name}.py" for name in ("errors", "routes")),
    *(ROOT / "server/src/forebay_server/api_compat").glob("*.py"),
    *(
        ROOT / f"server/src/forebay_server/serving/{name}.py"
        for name in ("errors", "extra_routes", "route_overrides", "validation_errors")
    ),
]
"""The modules that create the errors of an endpoint's API. Engine control on the ops port is not a part of it."""


def test_every_error_message_of_the_server_is_explained() -> None:
    written = {message for source in SOURCES for message in _messages(ast.parse(source.read_text()))}
    page = API.read_text()
    explained = [message for _, message, _ in _rows(page, "### Error messages", "\n## ")]
    explained += re.findall(r"^- (`.+`) \(\d{3}\)\n  \S", page.partition("These messages are longer:")[2], re.MULTILINE)
    assert len(explained) == len(set(explained))
    assert {message.strip("`") for message in explained} == written


def _messages(module: ast.Module) -> Iterator[str]:
    """The messages of a module's errors, with … for what is filled in."""
    assigned = [node for node in ast.walk(module) if isinstance(node, ast.Assign)]
    texts = {ast.unparse(node.targets[0]): _text(node.value, {}) for node in assigned}
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and (place := MESSAGE_PLACE.get(ast.unparse(node.func))) is not None:
            message = _text(node.args[place], texts)
            if message.replace("…", "").strip():
                yield message


MESSAGE_PLACE = {"ApiError": 1, "Incompatible": 0}
"""The constructor of an error -> the index of its message argument."""


def _text(node: ast.expr, texts: Mapping[str, str]) -> str:
    """A text of the code, with … for computed parts."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(value, texts) for value in values)
        case ast.FormattedValue(value=value):
            return _text(value, texts)
        case ast.Call(func=ast.Name(id="_shorten"), args=[argument]):
            return _text(argument, texts)
        case ast.Name(id=name):
            return texts.get(name) or "…"
    return "…"


def _rows(page: str, begin: str, end: str) -> list[list[str]]:
    """The cells of the first table after `begin`."""
    table = page.partition(begin)[2].partition(end)[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.replace("\\|", "|") for cell in re.split(r" (?<!\\)\| ", line[2:-2])] for line in lines[1:]]


def _json_blocks(page: str) -> Iterator[list[Any]]:
    """The values of each block of JSON. A block has one value, or one value in each line."""
    for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL):
        lines = block.splitlines()
        yield [json.loads(each) for each in lines] if block.count("\n{") else [json.loads(block)]


def _functions(path: str) -> set[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, kinds)}
