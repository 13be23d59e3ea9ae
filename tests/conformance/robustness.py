"""Many, disconnecting and hostile clients against a running server with the canned model.

On raw sockets, because a good HTTP client refuses to send such requests.
"""

import asyncio
import json
import random
import re
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.conformance.outcome import CheckOutcome
from tests.conformance.servers import Server

TOKENS = 48
CHECK_TIMEOUT = 300.0
"""The time limit of one check."""

PARALLEL_MALFORMED = 200
"""Malformed requests that run at the same time."""


@dataclass(frozen=True)
class Target:
    """The server that is tried."""

    host: str
    port: int
    ops: str
    key: str
    model: str

    def request(self, path: str, body: bytes, *, method: str = "POST", key: str | None = None, more: str = "") -> bytes:
        """A whole HTTP/1.1 request; `key` "" sends no key."""
        key = self.key if key is None else key
        authorization = f"authorization: Bearer {key}\r\n" if key else ""
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: {self.host}\r\n{authorization}content-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n{more}\r\n"
        )
        return head.encode("latin-1") + body

    def chat(self, *, stream: bool) -> bytes:
        """A chat completion of TOKENS tokens."""
        message = {"role": "user", "content": "Say something."}
        body = {"model": self.model, "messages": [message], "max_tokens": TOKENS, "ignore_eos": True, "stream": stream}
        return self.request("/v1/chat/completions", json.dumps(body).encode())

    async def send(self, request: bytes) -> bytes:
        """All bytes of the server until it closes the connection."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(request)
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    def running(self) -> float:
        """Requests in the engine, running or waiting, by the server's own metrics."""
        with urllib.request.urlopen(f"{self.ops}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        found = re.findall(r"^vllm:num_requests_(?:running|waiting)\{[^}]*\} (\S+)", text, re.MULTILINE)
        if not found:
            raise RuntimeError("The server's metrics do not say how many requests run.")
        return sum(map(float, found))


async def streams(target: Target, count: int) -> str:
    """`count` streams at once: each must bring the whole answer, in order. Returns what was wrong, or ""."""
    whole = await target.send(target.chat(stream=False))
    expected = json.loads(whole.partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"]
    replies = await asyncio.gather(*(target.send(target.chat(stream=True)) for _ in range(count)))
    wrong = Counter(problem for reply in replies if (problem := stream_problem(reply, expected)))
    return ", ".join(f"{number} {problem}" for problem, number in wrong.items())


def stream_problem(reply: bytes, expected: str) -> str:
    """Why a streamed reply is not `expected`; "" when it is."""
    if not reply.startswith(b"HTTP/1.1 200"):
        return f"answered {reply[:12].decode('latin-1')!r}"
    events = re.findall(rb"^data: (.*?)\r?$", reply, re.MULTILINE)
    if not events or events[-1] != b"[DONE]":
        return "cut short"
    chunks = [json.loads(event) for event in events[:-1]]
    if len({chunk["id"] for chunk in chunks}) != 1:
        return "mixed up with another"
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    return "" if text == expected else "out of order or lost tokens"


async def disconnects(target: Target, count: int) -> str:
    """`count` clients that disconnect in the middle of a stream: no request may continue for them."""

    async def leave() -> None:
        reader, writer = await asyncio.open_connection(target.host, target.port)
        writer.write(target.chat(stream=True))
        await reader.readuntil(b"data: ")
        writer.transport.abort()

    await asyncio.gather(*(leave() for _ in range(count)))
    for _ in range(100):
        if await asyncio.to_thread(target.running) == 0:
            return ""
        await asyncio.sleep(0.1)
    return f"{await asyncio.to_thread(target.running):g} requests still run after 10 s"


def malformed(target: Target, random_: random.Random) -> tuple[bytes, bool]:
    """One bad request, and whether it was sent with the key."""
    with_key = random_.random() < 0.7
    key = None if with_key else random_.choice(["", "x", "wrong-key-0123456789", target.key[:-1]])
    path = random_.choice(PATHS)
    if random_.random() < 0.4:
        path = random_.choice(TRICKS)
        return target.request(path, b"{}", method=random_.choice(METHODS), key=key), with_key
    return target.request(path, _body(target, random_), key=key, more=random_.choice(HEADERS)), with_key


def _body(target: Target, random_: random.Random) -> bytes:
    kind = random_.randrange(6)
    if kind == 0:
        return random_.choice([b"", b"{", b"nul", b"[]", b"1", b'"x"', b"\xff\xfe", b"NaN", b'{"a":1,}', b"null"])
    if kind == 1:
        return random_.randbytes(random_.randrange(200))
    if kind == 2:
        depth = random_.choice([100, 1_000, 50_000])
        return b"[" * depth + b"]" * depth
    if kind == 3:
        return b'{"messages":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}"
    body: dict[str, object] = {"model": target.model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    body |= {"prompt": "x", "input": "x"}
    for _ in range(random_.randrange(1, 4)):
        body[random_.choice(FIELDS)] = random_.choice(VALUES)
    return json.dumps(body).encode()


PATHS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/tokenize",
    "/v1/detokenize",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/messages/count_tokens",
    "/v2/x/openai/v1/chat/completions",
)
TRICKS = (
    "//v1/models",
    "/v1//models",
    "/v1/../metrics",
    "/v1/%2e%2e/metrics",
    "/v1/models/../../metrics",
    "/v1/models/%2e%2e/%2e%2e/metrics",
    "/v2/x/openai/v1/../../metrics",
    "/v2/x/openai/v1/%2e%2e/%2e%2e/metrics",
    "/v2/x%2fy/openai/v1/models",
    "/v2/%2e%2e/openai/v1/models",
    "/v2/x/%6fpenai/v1/models",
    "/v2//openai/v1/models",
    "/v1/models/%00",
    "/v1/models/" + "a" * 4000,
    "/v1/models?x=" + "%ff" * 100,
    "/metrics",
    "/%6detrics",
    "/docs",
    "/openapi.json",
    "/invocations",
    "/sleep",
    "/v1/load_lora_adapter",
    "/v1/responses/..%2f..%2fmetrics",
    "/v1/chat/completions/%2e%2e/%2e%2e/%2e%2e/metrics",
    "/V1/models",
    "/v1/models;x",
    "*",
    "http://example.com/v1/models",
)
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "FOO")
HEADERS = (
    "",
    "content-type: text/plain\r\n",
    "content-encoding: gzip\r\n",
    "x-request-id: " + "a" * 5000 + "\r\n",
    "x-request-id: a\tb\r\n",
    "x-forwarded-prefix: /metrics\r\nx-original-url: /metrics\r\n",
    "authorization: Bearer other\r\n",
    "cookie: " + "x" * 8000 + "\r\n",
    "endpoint-load-metrics-format: x\r\n",
    "x-data-parallel-rank: 99\r\n",
    "x-data-parallel-rank: x\r\n",
    "transfer-encoding: identity\r\n",
)
FIELDS = (
    "model",
    "messages",
    "prompt",
    "input",
    "max_tokens",
    "temperature",
    "top_p",
    "n",
    "stop",
    "stream",
    "stream_options",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "seed",
    "tools",
    "tool_choice",
    "response_format",
    "structured_outputs",
    "chat_template",
    "chat_template_kwargs",
    "tokens",
    "priority",
    "min_p",
    "text",
    "reasoning",
    "echo",
    "prompt_logprobs",
    "truncate_prompt_tokens",
    "cache_salt",
    "instructions",
    "previous_response_id",
)
# Grammars among them are all wrong ones: the canned model obeys none, so a right one ends as an error of the engine.
VALUES: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    1e308,
    10**30,
    -(2**63) - 1,
    "",
    "x",
    "\x00",
    "\ud800",
    "x" * 50_000,
    [],
    [[]],
    [None],
    {},
    {"a": {"b": []}},
    [{"role": "x"}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
    [{"type": "function", "function": {"name": "f", "parameters": {"type": 3}}}],
    {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string", "pattern": "(((("}}},
    {"regex": "(" * 50},
    {"regex": "[a-z"},
    {"grammar": "root ::= "},
    {"json": "x"},
    "{{ 1/0 }}",
    [1, -5, 10**9],
)


async def hostile(target: Target, count: int, seed: int = 4) -> str:
    """`count` malformed requests: never a 5xx, and never anything but 401 without a good key."""
    random_ = random.Random(seed)
    turn = asyncio.Semaphore(PARALLEL_MALFORMED)
    wrong: Counter[str] = Counter()
    answers: Counter[int] = Counter()

    async def one(request: bytes, with_key: bool) -> None:
        async with turn:
            reply = await target.send(request)
        found = re.match(rb"HTTP/1\.\d (\d{3})", reply)
        status = int(found[1]) if found else 0
        answers[status] += 1
        line = request.partition(b"\r\n")[0][:80].decode("latin-1")
        if status >= 500:
            body = request.partition(b"\r\n\r\n")[2][:160]
            wrong[f"{status} for {line} {body!r}"] += 1
        if not with_key and 200 <= status < 400:
            wrong[f"{status} without a key for {line}"] += 1
        if (
            status >= 400
            and b"x-request-id" not in reply.lower()
            and not reply.endswith(b"Invalid HTTP request received.")
        ):
            wrong[f"{status} without a request id for {line}"] += 1
        if status >= 400 and LEAKS.search(reply):
            wrong[f"a path or a trace in the answer to {line}: {LEAKS.search(reply)}"] += 1

    await asyncio.gather(*(one(*malformed(target, random_)) for _ in range(count)))
    print("  answers by status:", dict(sorted(answers.items())))
    still = stream_problem(await target.send(target.chat(stream=True)), await _text(target))
    if still:
        wrong[f"afterwards a good stream is {still}"] += 1
    return "\n  ".join(f"{number} x {what}" for what, number in wrong.most_common(20))


LEAKS = re.compile(rb"Traceback|/site-packages/|/opt/|\.py\b")


async def _text(target: Target) -> str:
    whole = await target.send(target.chat(stream=False))
    return str(json.loads(whole.partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"])


def outcomes(server: Server, model: str, streaming: int, leaving: int, bad: int) -> Iterator[CheckOutcome]:
    """The three checks with these counts, one after the other."""
    address = urlsplit(server.address)
    target = Target(address.hostname or "", address.port or 80, server.ops, server.key, model)
    checks: list[tuple[str, Callable[[Target, int], Awaitable[str]], int]] = [
        ("streams at once, none lost or out of order", streams, streaming),
        ("clients leave, nothing goes on for them", disconnects, leaving),
        ("malformed requests, no 5xx, none past the key", hostile, bad),
    ]
    for name, run, count in checks:
        wrong = asyncio.run(_in_time(run(target, count)))
        yield CheckOutcome(name, 0 if wrong else count, (wrong,) if wrong else ())


async def _in_time(check: Awaitable[str]) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            return await check
    except TimeoutError:
        return f"not done in {CHECK_TIMEOUT:g} s"
