"""The paths that the HTTP port answers. Other paths get 404, also those that a new vLLM adds."""

import re
from dataclasses import dataclass

from forebay_protocol.errors import ApiDialect
from forebay_protocol.routes import PROBES, ROUTES, dialect_of, locate

ROOT_ROUTES = frozenset({"classify", "detokenize", "pooling", "tokenize", "tokenizer_info"})
"""Routes that clients call under /v1/, and that vLLM has at the root."""

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
"""First part of the paths of OpenAI APIs that an inference server lacks -> name of the API."""

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
"""Path as vLLM knows it -> its operation, for the error if the loaded model does not support it."""

BY_GET = frozenset({"/tokenizer_info"})
"""The operations with the method GET. The others have POST."""

SWITCHES = {"/tokenizer_info": "ENABLE_TOKENIZER_INFO_ENDPOINT"}
"""Operation that vLLM has only if a variable is true -> the variable."""

DOCUMENT = ("/openapi.json", "/v1/openapi.json")
"""The paths of the OpenAPI document, which require a key."""

RUNSYNC = re.compile(r"^/v2/[^/]+/runsync$")
"""The path for RunPod's clients that send a job and wait for its output."""

_ABSENT = frozenset(ABSENT_PARTS)


@dataclass(frozen=True)
class RequestedRoute:
    """The route that a client's path names.

    Attributes:
        path: the path as vLLM knows it; the client's own if there is no such route.
        served: whether the route belongs to the API, is a probe, or accepts jobs.
        api: the API whose errors it answers with.
        absent: the name of the OpenAI API that the route belongs to, if the server lacks this API; else "".
    """

    path: str
    served: bool
    api: ApiDialect = ApiDialect.OPENAI
    absent: str = ""

    @property
    def open(self) -> bool:
        """Whether the route requires no key."""
        return self.path in PROBES


def read_path(path: str) -> RequestedRoute:
    """Find the route that a path names, in any of the clients' spellings."""
    return _CANONICAL.get(path) or _parse_path(path)


def _parse_path(path: str) -> RequestedRoute:
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
    """Whether clients can reach a path of vLLM's app."""
    route = read_path(path)
    return route.served and route.path == path


_CANONICAL = {path: _parse_path(path) for path in (*(f"/v1/{route}" for route in ROUTES), *PROBES)}
"""The routes by the paths that most clients use, so that a request for them needs no parsing."""
