"""Streamed text that goes from the engine to the socket has the chunks that vLLM's own route sends."""

import asyncio
import json
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from forebay_server.serving.streams import TextStream
from tests.vllm.server import Server

COUNT = """
import sys
from forebay_server.serving import streams
begin, encode = streams.TextStream.begin, streams._encode
def counting(stream, send):
    begin(stream, send)
    real = stream._send
    def counted(message):
        print("direct" if sys._getframe(1).f_code.co_name == "_send_plain" else "vllm", file=sys.stderr, flush=True)
        return real(message)
    stream._send = counted if real else None
streams.TextStream.begin = counting
"""
"""Run before the server, in its process: writes a line for each chunk that does not pass vLLM's generator."""

VLLMS_OWN = {"endpoint-load-metrics-format": "json"}
"""With this header a request is answered by vLLM's own route."""

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 40}
TEXT: dict[str, Any] = {"prompt": "Hello", "max_tokens": 40}
MODEL = "tiny"
USAGE = {"stream_options": {"include_usage": True}}

PLAIN = [CHAT, TEXT, CHAT | USAGE, TEXT | USAGE, CHAT | {"n": 1, "seed": 3, "stop": ["zz"]}, CHAT | {"max_tokens": 1}]
OTHERS = [
    CHAT | {"n": 2, "temperature": 1},
    CHAT | {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    CHAT | {"return_token_ids": True},
    TEXT | {"echo": True},
    TEXT | {"prompt": ["Hello", "Good evening"]},
]

CANNED = {
    "DISTRIBUTED_EXECUTOR_BACKEND": "forebay_canned.CannedExecutor",
    "FOREBAY_CANNED_STEP_SECONDS": "0.02",
    "FOREBAY_CANNED_TEXT": 'A "quoted" \\ line,\n\ttabs, \x01\x7f, ÄÖ, 日本語, 🙂 \u2028 and </script>. ',
    "OPENAI_SERVED_MODEL_NAME_OVERRIDE": MODEL,
}
"""A slow engine, so that most tokens get a chunk of their own. Where the server does not keep up, vLLM joins tokens."""

CHUNK_TEXT = re.compile(r'(?:(?<="content":)|(?<="text":))"((?:[^"\\]|\\.)*)"')
CHUNK_TOKEN_IDS = re.compile(r'(?<="token_ids":\[)[\d,]+')

WITH_TOOLS = {"CUSTOM_CHAT_TEMPLATE": "{% if tools %}<tool_call>{% endif %}{{ messages }}"}
"""This makes the server set a tool parser, which must not affect requests without tools."""


@pytest.fixture(scope="module", params=[{}, WITH_TOOLS], ids=["no parser", "tool parser"])
def server(
    request: pytest.FixtureRequest, vllm_python: str, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("streams")
    (folder / "sitecustomize.py").write_text(COUNT)
    canned = Path("cluster/images/vllm-canned").absolute()
    path = os.pathsep.join([str(folder), str(canned), *filter(None, [os.environ.get("PYTHONPATH")])])
    started = Server(
        vllm_python, folder, {"MODEL_NAME": str(tiny_model), "PYTHONPATH": path, **CANNED, **request.param}
    )
    try:
        started.wait_for("/readyz")
        yield started
    finally:
        started.end()


def test_the_chunks_are_those_of_vllm(server: Server) -> None:
    for body in PLAIN:
        before = sent_directly(server)
        ours, theirs = stream(server, body), stream(server, body, VLLMS_OWN)
        assert join_tokens(ours) == join_tokens(theirs), body
        direct = sent_directly(server) - before
        assert (direct > 0) == (body["max_tokens"] == 40), body
        with_text = [chunk for chunk in ours if has_text_only(chunk) and any(CHUNK_TEXT.findall(chunk))]
        assert direct >= len(with_text) - 1, "vLLM writes the first"
    before = sent_directly(server)
    for body in OTHERS:
        ours, theirs = (sorted(stream(server, body, headers), key=choice_of) for headers in ({}, VLLMS_OWN))
        assert join_tokens(ours) == join_tokens(theirs), body
    assert sent_directly(server) == before, "nothing but plain text"


def test_a_client_that_disconnects_ends_its_request(server: Server) -> None:
    body = json.dumps({"model": MODEL, **CHAT, "max_tokens": 4000, "ignore_eos": True, "stream": True}).encode()
    headers = ["Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    head = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", *headers, "", ""])
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head.encode() + body)
        received = b""
        while received.count(b"data:") < 20:
            received += client.recv(65536)
    deadline = time.monotonic() + 10
    while running(server) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running(server) == 0
    assert "Exception in ASGI" not in server.log.read_text()


def running(server: Server) -> float:
    _, metrics = server.ops("/metrics")
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("vllm:num_requests_running"))


def result_of(text: str, *token_ids: int, finish_reason: str | None = None) -> Any:
    """A RequestOutput of vLLM with one choice."""
    output = SimpleNamespace(text=text, token_ids=list(token_ids), finish_reason=finish_reason)
    return SimpleNamespace(outputs=[output], finished=finish_reason is not None)


@pytest.mark.gate
def test_a_token_without_text_is_streamed_by_vllm() -> None:
    """It is a part of a character. With a tool parser, vLLM sends no chunk for it; without one, an empty chunk."""
    sent: list[bytes] = []
    left: list[list[int]] = []
    text_stream = TextStream('"text":')

    async def send(message: Any) -> None:
        sent.append(message["body"])

    async def results() -> AsyncGenerator[Any, None]:
        for result in (result_of("a", 1), result_of("b", 2), result_of("", 3), result_of("\N{ELEPHANT}", 4)):
            yield result
        yield result_of("c", 5, finish_reason="stop")

    async def read() -> None:
        for_vllm = text_stream.tap(results())
        text_stream.begin(send)
        async for result in for_vllm:
            left.append(result.outputs[0].token_ids)
            text_stream.learn('{"text":"a"}')

    asyncio.run(read())
    assert sent == [b'{"text":"b"}', '{"text":"\N{ELEPHANT}"}'.encode()]
    assert left == [[1], [2, 3], [4, 5]]


def sent_directly(server: Server) -> int:
    return server.log.read_text(errors="replace").splitlines().count("direct")


@dataclass(frozen=True)
class JoinedChunks:
    """A streamed answer without the places where vLLM divided it.

    vLLM joins the tokens that its engine has made while the server was busy (RequestOutput.add), also those before the
    end with the end. So the number of chunks differs from run to run, and the text of each.
    """

    forms: list[str]
    """The chunks without text, token IDs and counts so far. Consecutive chunks of one form count as one."""
    texts: dict[str, str]
    """Choice -> its text, escaped as in the chunks."""
    token_ids: dict[str, list[str]]
    """Choice -> its token IDs, if the request includes them."""


def join_tokens(chunks: list[str]) -> JoinedChunks:
    joined = JoinedChunks([], defaultdict(str), defaultdict(list))
    for chunk in chunks:
        choice = choice_of(chunk)
        joined.texts[choice] += "".join(CHUNK_TEXT.findall(chunk))
        joined.token_ids[choice] += [number for ids in CHUNK_TOKEN_IDS.findall(chunk) for number in ids.split(",")]
        # with a tool parser vLLM omits the content of an end that has no text
        form = CHUNK_TOKEN_IDS.sub("", CHUNK_TEXT.sub('""', chunk)).replace('"delta":{}', '"delta":{"content":""}')
        if has_text_only(chunk):
            form = re.sub(r'"(completion|total)_tokens":\d+', r'"\1_tokens":', form)
        if not (has_text_only(chunk) and joined.forms[-1:] == [form]):
            joined.forms.append(form)
    return joined


def choice_of(chunk: str) -> str:
    """The number of the choice that a chunk belongs to; "~" for the chunks after all choices."""
    match = re.search(r'"choices":\[\{"index":(\d+)', chunk)
    return match[1] if match else "~"


def has_text_only(chunk: str) -> bool:
    """Whether a chunk neither begins nor ends a choice."""
    return '"finish_reason":null' in chunk and '"role":' not in chunk


def stream(server: Server, body: dict[str, Any], headers: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """The received chunks, without fields that differ between requests."""
    path = "chat/completions" if "messages" in body else "completions"
    content = json.dumps({"model": MODEL, "temperature": 0, **body, "stream": True}).encode()
    url = f"http://127.0.0.1:{server.port}/v1/{path}"
    request = urllib.request.Request(url, content, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            events = answer.read().decode().split("\n\n")
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{body}: {error.read().decode()}") from error
    assert events[-2:] == ["data: [DONE]", ""]
    return [re.sub(r'"id":"[^"]+"|"created":\d+', "", event) for event in events]
