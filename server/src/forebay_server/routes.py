"""Which paths the HTTP port answers. What is not named here is not there, whatever a new vLLM adds."""

import re

OPEN = frozenset({"/health", "/ping"})
"""Answered without a key: they say that the server is up, and nothing else."""

RESOURCES = frozenset(
    {
        "audio",
        "chat",
        "completions",
        "embeddings",
        "messages",
        "models",
        "realtime",
        "rerank",
        "responses",
        "score",
    }
)
"""The first part of a path after /v1/. What changes the state of vLLM (load_lora_adapter, …) is not here."""

RUNSYNC = re.compile(r"^/v2/[^/]+/runsync$")
"""Where RunPod's clients send a job and wait for its output."""

_RUNPOD_PREFIX = re.compile(r"^/v2/[^/]+/openai(?=/v1(?:/|$))")


def canonical(path: str) -> str:
    """/v2/<any id>/openai/v1/... as /v1/...; any other path as it is."""
    return _RUNPOD_PREFIX.sub("", path, count=1)


def is_served(path: str) -> bool:
    """Whether a canonical path belongs to the OpenAI API or takes jobs."""
    if RUNSYNC.match(path):
        return True
    root, _, rest = path.removeprefix("/").partition("/")
    return root == "v1" and rest.partition("/")[0] in RESOURCES
