"""The tiny models that the tests share: kind, tasks and settings of each. conftest.py starts one server for each."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.vllm.server import NAME, ROOT, environment

CANNED = ROOT / "cluster/images/vllm-canned"

ROLE = "narrator"
"""OPENAI_RESPONSE_ROLE of the writer."""

TEMPLATE = "<<{% for message in messages %}{{ message.role }} says {{ message.content }}. {% endfor %}>> "
"""CUSTOM_CHAT_TEMPLATE of the writer."""

SAID = """<think>It is asked.</think><tool_call>
{"name": "weather", "arguments": {"city": "Paris"}}
</tool_call>"""
"""The answer of the canned model to every request."""


@dataclass(frozen=True)
class Models:
    """The folders of the models."""

    tiny: Path
    """Written by cluster/images/vllm-canned/make_model.py."""
    folder: Path
    """Written by make_models.py: one folder in it for each kind."""

    @classmethod
    def make(cls, python: str, tiny: Path, folder: Path) -> "Models":
        """Write all kinds in one process, because its imports take longer than the models."""
        command = [python, str(Path(__file__).parent / "make_models.py"), str(tiny), str(folder)]
        subprocess.run(command, check=True, env=environment(folder), timeout=120)
        return cls(tiny, folder)

    def path(self, kind: str) -> str:
        """The folder of a kind, or of the tiny chat model for ""."""
        return str(self.folder / kind if kind else self.tiny)


@dataclass(frozen=True)
class TinyModel:
    """One model and its server."""

    kind: str
    """A kind of make_models.py, or "" for the tiny chat model."""
    tasks: frozenset[str]
    """The tasks that vLLM reports for it."""
    variables: Mapping[str, str]
    adapter: bool = False
    """Whether an adapter is served too, as the model `polite`."""

    def environment(self, models: Models) -> dict[str, str]:
        variables = {"MODEL_NAME": models.path(self.kind), **self.variables}
        if self.adapter:
            module = {"name": "polite", "path": models.path("adapter"), "base_model_name": NAME}
            variables |= {"ENABLE_LORA": "true", "LORA_MODULES": json.dumps([module])}
        return variables


TOOLS = {"ENABLE_AUTO_TOOL_CHOICE": "true", "TOOL_CALL_PARSER": "hermes"}
POOLING = {"RUNNER": "pooling", "LOAD_FORMAT": "auto", "MAX_MODEL_LEN": "128"}

MODELS = {
    "writer": TinyModel(
        "",
        frozenset({"generate"}),
        {
            "MAX_LORAS": "2",
            "MAX_LORA_RANK": "8",
            "CUSTOM_CHAT_TEMPLATE": TEMPLATE,
            "OPENAI_RESPONSE_ROLE": ROLE,
            **TOOLS,
            "MIN_BATCH_SIZE": "2",
            "BATCH_SIZE_GROWTH_FACTOR": "2",
            "DEFAULT_BATCH_SIZE": "4",
        },
        adapter=True,
    ),
    "canned": TinyModel(
        "thinker",
        frozenset({"generate"}),
        {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(CANNED), os.environ.get("PYTHONPATH")))),
            "DISTRIBUTED_EXECUTOR_BACKEND": "forebay_canned.CannedExecutor",
            "FOREBAY_CANNED_TEXT": SAID,
            "FOREBAY_CANNED_STEP_SECONDS": "0.005",
            "REASONING_PARSER": "deepseek_r1",
            **TOOLS,
            "RAW_OPENAI_OUTPUT": "0",
            "RAW_VLLM_OUTPUT": "1",
            "DEFAULT_MIN_BATCH_SIZE": "2",
            "DEFAULT_BATCH_SIZE_GROWTH_FACTOR": "1.5",
            "DEFAULT_BATCH_SIZE": "3",
        },
    ),
    "whisper": TinyModel("whisper", frozenset({"transcription"}), {"LOAD_FORMAT": "auto", "MAX_MODEL_LEN": ""}),
    "llava": TinyModel(
        "vision", frozenset({"generate"}), {"MAX_MODEL_LEN": "2048", "VLLM_MEDIA_FETCH_MAX_RETRIES": "1"}
    ),
    "classifier": TinyModel("classifier", frozenset({"classify", "token_classify"}), POOLING),
    "scorer": TinyModel("cross-encoder", frozenset({"classify", "token_classify"}), POOLING),
    "embedder": TinyModel("embedder", frozenset({"embed", "token_embed"}), POOLING),
    "listener": TinyModel("listener", frozenset({"generate", "transcription", "realtime"}), {"MAX_MODEL_LEN": "2048"}),
}
"""The order is that of the tests, so that the next server starts in time."""
