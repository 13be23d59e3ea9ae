"""The API against checks that others wrote: `make test` runs the quick ones, `make conformance` all but the soak."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance import robustness, suites
from tests.conformance.outcome import CheckOutcome
from tests.conformance.servers import MODEL, Server

pytestmark = pytest.mark.conformance

Expect = Callable[[CheckOutcome], None]


@pytest.mark.parametrize("name", suites.FORMATS)
def test_llm_comply_on_canned_answers(canned: Server, programs: Path, expect: Expect, name: str) -> None:
    """Whether a tool is called is up to the model, so that part is for the real one."""
    expect(suites.comply(programs, canned.api, canned.key, MODEL, name, without=("tool",)))


@pytest.mark.parametrize(
    ("streams", "disconnects", "malformed"),
    [
        pytest.param(200, 50, 1000, id="short"),
        pytest.param(1000, 200, 10_000, id="long", marks=pytest.mark.soak),
    ],
)
def test_many_disconnecting_and_hostile_clients(
    canned: Server, expect: Expect, streams: int, disconnects: int, malformed: int
) -> None:
    for outcome in robustness.outcomes(canned, MODEL, streams, disconnects, malformed):
        expect(outcome)


@pytest.mark.whole
@pytest.mark.parametrize("name", suites.FORMATS)
def test_llm_comply(real: Server, programs: Path, expect: Expect, name: str) -> None:
    expect(suites.comply(programs, real.api, "none", MODEL, name))


@pytest.mark.whole
def test_the_suite_of_openai_python(real: Server, programs: Path, expect: Expect) -> None:
    expect(suites.openai_suite(programs, real.api, suites.TEXT))


@pytest.mark.whole
def test_the_suite_of_openai_python_on_embeddings(embedding: Server, programs: Path, expect: Expect) -> None:
    expect(suites.openai_suite(programs, embedding.api, suites.EMBEDDING))


@pytest.mark.whole
def test_the_standard_tests_of_langchain(real: Server, programs: Path, expect: Expect) -> None:
    expect(suites.langchain(programs, real.api, "none", MODEL))


LIBRARIES = pytest.mark.parametrize("name", ["langchain", "litellm"])


@LIBRARIES
def test_libraries_on_canned_answers(canned: Server, programs: Path, expect: Expect, name: str) -> None:
    """Whether a tool is called is up to the model, so that part is for the real one."""
    expect(suites.library(programs, name, "text", canned, canned.key))


@pytest.mark.whole
@LIBRARIES
def test_libraries(real: Server, programs: Path, expect: Expect, name: str) -> None:
    expect(suites.library(programs, name, "model", real, "none"))


@pytest.mark.whole
@LIBRARIES
def test_libraries_on_embeddings(embedding: Server, programs: Path, expect: Expect, name: str) -> None:
    expect(suites.library(programs, name, "embedding", embedding, "none"))


@pytest.mark.whole
def test_the_javascript_client(real: Server, images: dict[str, str], expect: Expect) -> None:
    program = Path(__file__).with_name("client.mjs").read_text("utf-8")
    command = ["docker", "run", "--rm", "-i", "--network=host", images["client"], "node", "--input-type=module", "-"]
    arguments = [real.api, MODEL]
    done = subprocess.run(
        [*command, *arguments], input=program, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, str] = json.loads(done.stdout)
    failures = tuple(f"{name}: {wrong}" for name, wrong in results.items() if wrong)
    expect(CheckOutcome("openai's JavaScript client", len(results) - len(failures), failures))


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(60, id="short", marks=pytest.mark.whole), pytest.param(600, id="long", marks=pytest.mark.soak)],
)
def test_no_request_of_the_openapi_document_is_a_server_error(
    tiny: Server, programs: Path, expect: Expect, seconds: int
) -> None:
    expect(suites.schemathesis(programs, tiny.address, tiny.key, seconds))
