"""The table of routes and tasks: every route of each model's app, its access, a request and the expected answer.

test_routes.py compares the table with the running apps and sends every request. When a new vLLM adds or drops a route,
decide in forebay_server.serving.routes whether clients may call it, then change the table.
`python -m tests.vllm.routes` prints the table as Markdown.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tests.vllm.route import SOUND, Access, Route
from tests.vllm.server import NAME

LISTED = ("writer", "llava", "listener", "whisper", "classifier", "scorer", "embedder")
"""The models in the table, at least one for each task."""

UNTESTED_TASKS = {
    "embed&token_classify": "needs a plugin that reads both outputs",
    "plugin": "needs a plugin of vLLM for the model's own kind of output",
    "render": "a server without an engine, which forebay-server does not run",
}
"""Tasks of vLLM that no model in the table has -> the reason."""

ALL = frozenset(LISTED)
WRITE = frozenset({"writer", "llava", "listener"})
HEAR = frozenset({"listener", "whisper"})
LISTEN = frozenset({"listener"})
HEAR_ONLY = frozenset({"whisper"})
CLASSIFY = frozenset({"classifier"})
SCORE = frozenset({"scorer"})
EMBED = frozenset({"embedder"})


HELLO = [{"role": "user", "content": "Hello"}]


def body(**more: Any) -> dict[str, Any]:
    return {"model": NAME, **more}


def get(path: str, access: Access, shape: Any = None, models: frozenset[str] = ALL, **more: Any) -> Route:
    return Route("GET", path, models, access, shape=shape, **more)


def post(path: str, models: frozenset[str], content: Mapping[str, Any], shape: Any, **more: Any) -> Route:
    return Route("POST", path, models, Access.KEY, content, shape, **more)


def hidden(methods: str, path: str, models: frozenset[str] = ALL) -> Route:
    """A route that clients must not reach: it changes the server, describes it, or belongs to another API."""
    shape = {"error": {"code": "unknown_url", "type": "invalid_request_error", "param": None, "message": str}}
    return Route(methods, path, models, Access.HIDDEN, {} if methods == "POST" else None, shape, 404)


TEXT = body(prompt="Hello", add_special_tokens=False)
ERROR = {"error": {"message": str, "type": str, "param": object, "code": object}}
WRITTEN = {"choices": [{"index": 0, "finish_reason": "length"}], "usage": {"completion_tokens": 2}, "model": NAME}
TWO = {"max_tokens": 2, "ignore_eos": True}
SCORES = [{"index": 0, "score": float}, {"index": 1, "score": float}]
PAIRS = {"queries": "Who?", "documents": ["Me", "You"]}

EVERY_MODEL = (
    get("/health", Access.OPEN),
    get("/ping", Access.OPEN),
    Route("POST", "/ping", ALL, Access.OPEN, {}),
    get("/openapi.json", Access.KEY, {"openapi": str, "paths": dict}),
    get("/v1/openapi.json", Access.KEY, {"openapi": str, "paths": dict}),
    get("/v1/models", Access.KEY, {"object": "list", "data": list}),
    get("/v1/models/{model:path}", Access.KEY, {"id": NAME, "object": "model", "created": int, "owned_by": str}),
    post("/tokenize", ALL - HEAR_ONLY, TEXT, {"count": 5, "tokens": [int] * 5}),
    post("/tokenize", HEAR_ONLY, TEXT, {"count": 0, "tokens": []}),  # vLLM counts the decoder's prompt
    post("/detokenize", ALL, body(tokens=[39, 40]), {"prompt": str}),
    Route(
        "GET",
        "/tokenizer_info",
        ALL,
        Access.KEY,
        shape={"error": {"code": "not_available_for_model", "message": str}},
        status=404,
        absent=True,
    ),
    hidden("GET", "/docs"),
    hidden("GET", "/docs/oauth2-redirect"),
    hidden("GET", "/kv_event_sources"),
    hidden("GET", "/load"),
    hidden("GET", "/metrics"),
    hidden("GET", "/redoc"),
    hidden("GET", "/version"),
    hidden("MOUNT", "/metrics"),
    hidden("POST", "/invocations"),
    hidden("POST", "/v1/systemone"),
)

OFF = {"error": {"message": str, "type": str, "code": object}}
"""vLLM's answer for routes that need --enable-scale-out."""

GENERATE = (
    post("/v1/completions", WRITE, body(prompt="Hello", **TWO), WRITTEN | {"object": "text_completion"}),
    post("/v1/chat/completions", WRITE, body(messages=HELLO, **TWO), WRITTEN | {"object": "chat.completion"}),
    post(
        "/v1/chat/completions/batch",
        WRITE,
        body(messages=[HELLO, HELLO], max_tokens=2),
        {"choices": [{"index": 0}, {"index": 1}]},
    ),
    post(
        "/v1/responses",
        WRITE,
        body(input="Hello", max_output_tokens=2, ignore_eos=True),
        {"object": "response", "status": "incomplete", "output": list, "model": NAME},
    ),
    get("/v1/responses/{response_id}", Access.KEY, ERROR, WRITE, status=404),
    post("/v1/responses/{response_id}/cancel", WRITE, {}, ERROR, status=404),
    post(
        "/v1/messages",
        WRITE,
        body(messages=HELLO, max_tokens=2),
        {"type": "message", "role": "assistant", "content": list, "usage": {"output_tokens": int}},
    ),
    post("/v1/messages/count_tokens", WRITE, body(messages=HELLO), {"input_tokens": int}),
    *(
        post(path, WRITE, body(), OFF, status=403)
        for path in (
            "/v1/chat/completions/derender",
            "/v1/chat/completions/render",
            "/v1/completions/derender",
            "/v1/completions/render",
            "/v1/messages/render",
            "/v1/responses/render",
        )
    ),
    hidden("POST", "/generative_scoring", WRITE),
    hidden("POST", "/inference/v1/abort_requests", WRITE),
    hidden("POST", "/inference/v1/generate", WRITE),
    hidden("POST", "/is_scaling_elastic_ep", WRITE),
    hidden("POST", "/scale_elastic_ep", WRITE),
)

FEW = {"max_completion_tokens": 4}

TRANSCRIBE = (
    post("/v1/audio/transcriptions", HEAR, body(file=SOUND, language="en", **FEW), {"text": str}),
    post("/v1/audio/translations", HEAR, body(file=SOUND, **FEW), {"text": str}),
    Route("WEBSOCKET", "/v1/realtime", LISTEN, Access.KEY),
)


def pooled(models: frozenset[str], data: Any) -> Route:
    return post("/pooling", models, body(input="Hello"), {"data": [{"data": data}]})


POOL = (
    post("/classify", CLASSIFY, body(input="Hello"), {"data": [{"label": str, "probs": [float] * 3}]}),
    post("/classify", SCORE, body(input="Hello"), {"data": [{"label": object, "probs": [float]}]}),
    post("/v1/moderations", CLASSIFY | SCORE, body(input="Hello"), {"results": [{"flagged": bool}]}),
    pooled(CLASSIFY, [float] * 3),
    pooled(SCORE, [float]),
    pooled(EMBED, [float] * 64),
    post("/v1/score", SCORE | EMBED, body(**PAIRS), {"data": SCORES}),
    post("/v1/embeddings", EMBED, body(input="Hello"), {"data": [{"embedding": [float] * 64}]}),
    *(
        post(path, SCORE | EMBED, body(query="Who?", documents=["Me", "You"]), {"results": list})
        for path in ("/rerank", "/v1/rerank", "/v2/rerank")
    ),
    post("/score", SCORE | EMBED, body(**PAIRS), {"data": SCORES}),
    post(
        "/v2/embed",
        EMBED,
        body(texts=["Hello"], embedding_types=["float"]),
        {"embeddings": {"float": [[float] * 64]}},
    ),
)

OPERATIONS = (
    "/classify",
    "/pooling",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/moderations",
    "/v1/realtime",
    "/v1/rerank",
    "/v1/responses",
    "/v1/responses/compact",
    "/v1/score",
    "/v2/embed",
)
"""Operations that some models do not support. Those models answer with `not_available_for_model`."""


def absent(path: str) -> Route:
    """The row for the models that do not support an operation. Anthropic's routes have another error type."""
    able = {
        model for route in (*EVERY_MODEL, *GENERATE, *TRANSCRIBE, *POOL) if route.path == path for model in route.models
    }
    kind = "not_found_error" if path.startswith("/v1/messages") else "invalid_request_error"
    shape = {"error": {"code": "not_available_for_model", "type": kind, "message": str}}
    return Route("POST", path, ALL - able, Access.KEY, body(), shape, 404, absent=True)


ROUTES = (*EVERY_MODEL, *GENERATE, *TRANSCRIBE, *POOL, *(absent(path) for path in OPERATIONS))


def rows(model: str) -> list[Route]:
    """The rows that apply to one model."""
    return [route for route in ROUTES if model in route.models]


def mismatches(table: Iterable[Route], app: Iterable[tuple[str, str, bool]]) -> list[str]:
    """The routes that only the app has or only the table has, one message each."""
    listed, served = {route.key for route in table}, set(app)
    return [f"{describe(key)} has no row" for key in sorted(served - listed)] + [
        f"{describe(key)} is gone from the app" for key in sorted(listed - served)
    ]


def describe(key: tuple[str, str, bool]) -> str:
    method, path, is_absent = key
    return f"{method} {path}{' (not available)' if is_absent else ''}"


def table() -> str:
    """The table in Markdown."""
    lines = ["| route | " + " | ".join(LISTED) + " |", "|---|" + "---|" * len(LISTED)]
    for name in dict.fromkeys(f"{route.method} {route.path}" for route in ROUTES):
        cells = [
            next((cell(route) for route in rows(model) if name == f"{route.method} {route.path}"), "")
            for model in LISTED
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(route: Route) -> str:
    return "not available" if route.absent else f"{route.access}, {route.status}"


if __name__ == "__main__":
    print(table(), end="")
