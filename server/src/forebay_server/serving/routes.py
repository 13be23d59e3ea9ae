"""Which paths the HTTP port answers. What is not named here is not there, whatever a new vLLM adds."""

import re
from dataclasses import dataclass

from forebay_protocol.errors import ApiDialect
from forebay_protocol.routes import PROBES, dialect_of, locate

ROOT_ROUTES = frozenset({"classify", "detokenize", "pooling", "tokenize", "tokenizer_info"})
"""Served under /v1/ here, known to vLLM without it."""

ABSENT_PARTS = {
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
    "/tokenizer_info": "The description of the tokenizer",
    "/v2/embed": "Embedding",
}
"""Path as vLLM knows it -> what it does, for the answer where the loaded model cannot do it."""

BY_GET = frozenset({"/tokenizer_info"})
"""Those of the operations that are asked for by GET; the others are by POST."""

SWITCHES = {"/tokenizer_info": "ENABLE_TOKENIZER_INFO_ENDPOINT"}
"""Operations that vLLM has only where a variable is true -> the variable."""

DOCUMENT = ("/openapi.json", "/v1/openapi.json")
"""Where the OpenAPI document is, behind the key."""

RUNSYNC = re.compile(r"^/v2/[^/]+/runsync$")
"""Where RunPod's clients send a job and wait for its output."""

_ABSENT = frozenset(ABSENT_PARTS)


@dataclass(frozen=True)
class RequestedRoute:
    """What a client asks for by a path.

    Attributes:
        path: as vLLM knows it; the client's own where nothing is there.
        served: whether it belongs to the API, is a probe, or takes jobs.
        api: whose errors it answers with.
        absent: the part of OpenAI's API that it belongs to and that is not there; else "".
    """

    path: str
    served: bool
    api: ApiDialect = ApiDialect.OPENAI
    absent: str = ""

    @property
    def open(self) -> bool:
        """Whether it needs no key."""
        return self.path in PROBES


def read_path(path: str) -> RequestedRoute:
    """What a path asks for, in any of the spellings that clients use."""
    location = locate(path, _ABSENT)
    if location is None:
        return RequestedRoute(path, served=False, api=dialect_of(path))
    if not location.path:
        runsync = location.rest == "runsync"
        known = f"/v2/{location.endpoint}/runsync" if runsync else path
        return RequestedRoute(known, served=runsync, api=dialect_of(path))
    resource = location.path.removeprefix("/v1/").partition("/")[0]
    if resource in ABSENT_PARTS:
        return RequestedRoute(path, served=False, absent=ABSENT_PARTS[resource])
    if resource in ROOT_ROUTES:
        return RequestedRoute(f"/{resource}", served=True)
    return RequestedRoute(location.path, served=True, api=dialect_of(location.path))


def is_reached(path: str) -> bool:
    """Whether a path of vLLM's app is what some path of a client stands for."""
    route = read_path(path)
    return route.served and route.path == path
