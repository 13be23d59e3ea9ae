"""Which paths the HTTP port answers. What is not named here is not there, whatever a new vLLM adds."""

import re

from forebay_protocol.errors import ApiDialect

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
        "moderations",
        "openapi.json",
        "realtime",
        "rerank",
        "responses",
        "score",
    }
)
"""The first part of a path after /v1/. What changes the state of vLLM (load_lora_adapter, …) is not here."""

ROOT_ROUTES = frozenset({"classify", "detokenize", "pooling", "tokenize"})
"""Served under /v1/ here, known to vLLM without it."""

ABSENT = {
    "assistants": "The Assistants API",
    "batches": "The Batch API",
    "containers": "The Containers API",
    "conversations": "The Conversations API",
    "evals": "The Evals API",
    "files": "The Files API",
    "fine_tuning": "Fine-tuning",
    "images": "Image generation",
    "threads": "The Assistants API",
    "uploads": "The Uploads API",
    "vector_stores": "The Vector stores API",
    "videos": "Video generation",
}
"""Parts of OpenAI's API that an inference server has nothing for -> how they are called."""

OPERATIONS = {
    "/v1/audio/speech": "Speech synthesis",
    "/v1/audio/transcriptions": "Audio transcription",
    "/v1/audio/translations": "Audio translation",
    "/v1/chat/completions": "Chat completion",
    "/v1/completions": "Text completion",
    "/v1/embeddings": "Embedding",
    "/v1/messages": "The Messages API",
    "/v1/messages/count_tokens": "The Messages API",
    "/v1/moderations": "Moderation",
    "/v1/realtime": "The Realtime API",
    "/v1/rerank": "Reranking",
    "/v1/responses": "The Responses API",
    "/v1/responses/compact": "Compaction",
    "/v1/score": "Scoring",
    "/classify": "Classification",
    "/detokenize": "Detokenizing",
    "/pooling": "Pooling",
    "/tokenize": "Tokenizing",
}
"""Path as vLLM knows it -> what it does, for the answer where the loaded model cannot do it."""

DOCUMENT = ("/openapi.json", "/v1/openapi.json")
"""Where the OpenAPI document is, behind the key."""

RUNSYNC = re.compile(r"^/v2/[^/]+/runsync$")
"""Where RunPod's clients send a job and wait for its output."""

_RUNPOD_PREFIX = re.compile(r"^/v2/[^/]+/openai(?=/v1(?:/|$))")


def canonical(path: str) -> str:
    """The path that vLLM knows: /v2/<any id>/openai/v1/… as /v1/…, /v1/tokenize as /tokenize; others as they are."""
    path = _RUNPOD_PREFIX.sub("", path, count=1)
    if path.removeprefix("/v1/") in ROOT_ROUTES and path.startswith("/v1/"):
        return path.removeprefix("/v1")
    return path


def is_served(path: str) -> bool:
    """Whether a path, as the client wrote it, belongs to the OpenAI API or takes jobs."""
    if RUNSYNC.match(path) or path in DOCUMENT:
        return True
    root, _, rest = _RUNPOD_PREFIX.sub("", path, count=1).removeprefix("/").partition("/")
    return root == "v1" and (rest.partition("/")[0] in RESOURCES or rest in ROOT_ROUTES)


def absent_part(path: str) -> str:
    """The part of OpenAI's API that a path belongs to and that is not there; "" for any other path."""
    root, _, rest = _RUNPOD_PREFIX.sub("", path, count=1).removeprefix("/").partition("/")
    return ABSENT.get(rest.partition("/")[0], "") if root == "v1" else ""


def dialect(path: str) -> ApiDialect:
    """Whose errors a path, in any of its forms, answers with before its stream begins."""
    return ApiDialect.ANTHROPIC if canonical(path).startswith("/v1/messages") else ApiDialect.OPENAI
