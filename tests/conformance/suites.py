"""llm-comply, openai-python's suite, langchain's tests, libraries and schemathesis, against a server that is up."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.outcome import CheckOutcome
from tests.conformance.programs import OPENAI, ROOT, answer
from tests.conformance.servers import MODEL, Server

HERE = Path(__file__).parent
CANNOT_APPLY = HERE / "cannot_apply.txt"

FORMATS = ("openai-chat", "open-responses", "anthropic")
OTHER_MODELS = ("image", "reasoning", "thinking")
"""Tests of llm-comply with one of these in their names ask for a model that sees or reasons."""

TEXT = ("chat", "test_completions.py", "test_models.py")
EMBEDDING = ("test_embeddings.py",)


@dataclass(frozen=True)
class Exemption:
    """A test of a suite that cannot apply; `variant` "" means all of them."""

    file: str
    test: str
    variant: str

    def covers(self, node: str) -> bool:
        """Whether pytest's `node` (FILE::CLASS::TEST[VARIANT]) is this test."""
        path, _, name = node.partition("::")
        test, _, variant = name.rpartition("::")[2].partition("[")
        return (
            path.removeprefix("tests/api_resources/") == self.file
            and test == self.test
            and self.variant in ("", variant.rstrip("]"))
        )


def exemptions(text: str) -> list[Exemption]:
    """The content of cannot_apply.txt. Raises ValueError for a line without a reason."""
    found = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        node, _, why = line.partition(" | ")
        if not why:
            raise ValueError(f"cannot_apply.txt: {line!r} has no reason")
        file, _, test = node.partition("::")
        test, _, variant = test.partition("[")
        found.append(Exemption(file, test, variant.rstrip("]")))
    return found


def comply(programs: Path, url: str, key: str, model: str, name: str, *, without: Sequence[str] = ()) -> CheckOutcome:
    """One format of llm-comply; tests whose names contain a text of `without` do not run."""
    command: list[str | Path] = [programs / "venv/bin/llm-comply", "-u", url, f"-k{key}", "-m", model]
    printed = answer(*command, "--format", name, "--json", "--timeout", "120")
    results = json.loads(printed)["results"]
    apply = [each for each in results if not any(word in each["name"].lower() for word in (*OTHER_MODELS, *without))]
    failures = tuple(
        f"{each['name']}: {'; '.join(each['errors'])[:500]}" for each in apply if each["status"] == "failed"
    )
    passed = sum(each["status"] == "passed" for each in apply)
    return CheckOutcome(f"llm-comply {name}", passed, failures, len(results) - passed - len(failures))


def openai_suite(programs: Path, url: str, parts: Sequence[str]) -> CheckOutcome:
    """openai-python's own tests of these parts."""
    files = [f"tests/api_resources/{part}" for part in parts]
    options = ["-q", "--tb=line", "-p", "no:cacheprovider", "-n", "2", "-rA"]
    python = programs / "venv/bin/python"
    suite = programs / f"openai-{OPENAI}"
    printed = answer(python, "-m", "pytest", *options, *files, cwd=suite, TEST_API_BASE_URL=url)
    name = "openai-python's suite, " + ("embeddings" if parts == EMBEDDING else "text")
    return of_pytest(name, printed)


def langchain(programs: Path, url: str, key: str, model: str) -> CheckOutcome:
    """langchain's standard chat tests through langchain-openai."""
    options = ["-q", "--tb=line", "-p", "no:cacheprovider", "-p", "asyncio", "--asyncio-mode=auto", "-rA"]
    # Its client keeps connections from test to test, and those belong to a loop.
    options += ["-o", "asyncio_default_test_loop_scope=session", "-o", "asyncio_default_fixture_loop_scope=session"]
    python = programs / "venv/bin/python"
    where = {"FOREBAY_URL": url, "FOREBAY_KEY": key, "FOREBAY_MODEL": model}
    printed = answer(python, "-m", "pytest", *options, "-c", "/dev/null", "langchain_standard.py", cwd=HERE, **where)
    return of_pytest("langchain's standard chat tests", printed)


def library(programs: Path, name: str, group: str, server: Server, key: str) -> CheckOutcome:
    """A library of clients, by the program that has its name: see checks.py."""
    module = f"tests.conformance.{name}_library"
    arguments = [server.address, key, MODEL, group]
    printed = answer(programs / "venv/bin/python", "-m", module, *arguments, cwd=ROOT)
    try:
        results: dict[str, str] = json.loads(printed.splitlines()[-1])
    except (ValueError, IndexError):
        return CheckOutcome(f"{name}, {group}", 0, (printed[-2000:],))
    failures = tuple(f"{check}: {wrong}" for check, wrong in results.items() if wrong)
    return CheckOutcome(f"{name}, {group}", len(results) - len(failures), failures)


def of_pytest(name: str, printed: str) -> CheckOutcome:
    """The output of pytest -rA, without the tests that cannot apply."""
    known = exemptions(CANNOT_APPLY.read_text("utf-8"))
    passed = cannot_apply = 0
    failures = []
    for line in printed.splitlines():
        status, _, rest = line.partition(" ")
        if status not in ("PASSED", "FAILED", "ERROR"):
            continue
        node = rest.partition(" - ")[0]
        if status == "PASSED":
            passed += 1
        elif any(each.covers(node) for each in known):
            cannot_apply += 1
        else:
            failures.append(line)
    if not passed:
        failures.append(printed[-2000:])
    return CheckOutcome(name, passed, tuple(failures), cannot_apply)


def schemathesis(programs: Path, url: str, key: str, seconds: int) -> CheckOutcome:
    """Requests made from the server's own OpenAPI document, until the time is over: no 5xx."""
    options = ["--checks=not_a_server_error", "--phases=coverage,fuzzing", "--continue-on-failure", "--no-color"]
    limits = ["--request-timeout=60", "--seed=4", "--workers=2", "--warnings=off", f"--max-time={seconds}"]
    # Examples are many enough for the time to be what ends the run.
    more = [f"--header=Authorization: Bearer {key}", "--max-examples=2000", "--generation-database=none"]
    program = programs / "venv/bin/schemathesis"
    printed = answer(program, "run", f"{url}/openapi.json", *options, *limits, *more, cwd=programs)
    found = re.search(r"(\d+) generated, (?:(\d+) passed|.*)", printed)
    failures = [part[:6000] for part in re.findall(r"\[5\d\d\].*?(?=\n\s*st replay|\Z)", printed, re.DOTALL)]
    if not found or (not failures and not found[2]):
        failures.append(printed[-2000:])
    generated = int(found[1]) if found else 0
    return CheckOutcome(f"schemathesis for {seconds} s, no 5xx", generated - len(failures), tuple(failures))
