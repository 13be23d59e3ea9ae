"""Sends a closed-loop load of streamed chats, and measures the results of its clients."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import aiohttp

PROMPT = "Write a long story about a river, a dam and the people who live beside it."


@dataclass(frozen=True)
class Work:
    """Chats to send: `requests` of `tokens` tokens each, `clients` at a time."""

    model: str
    clients: int
    requests: int
    tokens: int


@dataclass(frozen=True)
class LoadResult:
    """The results of the clients of one round.

    Attributes:
        tokens: tokens received by all of them, as the usage at the end of each stream counts them.
        seconds: from the first request to the last token.
        first_token: median time to first token, in seconds.
        between_tokens: median time between two chunks, in seconds; 0 if each answer came in one chunk.
        tokens_per_chunk: a server that falls behind puts several tokens into a chunk.
    """

    tokens: int
    seconds: float
    first_token: float
    between_tokens: float
    tokens_per_chunk: float


async def load(url: str, headers: Mapping[str, str], work: Work) -> LoadResult:
    """Do the work against the server with this base URL.

    Raises:
        RuntimeError: a reply was not a complete stream, so the round has no result.
    """
    body = {
        "model": work.model,
        "messages": [{"role": "user", "content": PROMPT}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": work.tokens,
        "min_tokens": work.tokens,
        "ignore_eos": True,
        "temperature": 0,
    }
    waiting = list(range(work.requests))
    firsts: list[float] = []
    gaps: list[float] = []

    async def one(session: aiohttp.ClientSession) -> int:
        began = last = time.perf_counter()
        chunks = received = 0
        async with session.post(f"{url}/chat/completions", json=body, headers=dict(headers)) as reply:
            if reply.status != 200:
                raise RuntimeError(f"{url} answered {reply.status}: {await reply.text()}")
            async for line in reply.content:
                if b'"content":"' in line and b'"role"' not in line:
                    now = time.perf_counter()
                    (gaps if chunks else firsts).append(now - (last if chunks else began))
                    last = now
                    chunks += 1
                elif b'"completion_tokens":' in line:
                    received = json.loads(line.removeprefix(b"data: "))["usage"]["completion_tokens"]
        if received != work.tokens:
            raise RuntimeError(f"{url} ended a stream after {received} of {work.tokens} tokens")
        return received

    async def client(session: aiohttp.ClientSession) -> int:
        received = 0
        while waiting:
            waiting.pop()
            received += await one(session)
        return received

    connector = aiohttp.TCPConnector(limit=0)
    began = time.perf_counter()
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600)) as session:
        counts = await asyncio.gather(*(client(session) for _ in range(work.clients)))
    seconds = time.perf_counter() - began
    chunks = len(firsts) + len(gaps)
    return LoadResult(sum(counts), seconds, median(firsts), median(gaps or [0.0]), sum(counts) / chunks)
