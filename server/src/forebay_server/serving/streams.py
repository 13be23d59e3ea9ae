"""Streamed text, written from the engine to the socket.

vLLM builds an object for each token, dumps it as JSON and passes it through every layer of the app. But nearly all
chunks of an answer differ in their text only. So vLLM's own generator writes the first chunks, the last chunk, and all
chunks that are not plain text. Its first chunk with text is the frame for the texts in between. These texts go to the
socket as they leave the engine, one chunk for each result, as in vLLM. This module knows nothing about the form of a
chunk.

It taps `generate` (vLLM's EngineClient protocol) of the one engine client that vLLM creates.
"""

import asyncio
import functools
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from forebay_server.asgi import DIRECT, Message, Receive, Scope, Send

PLAIN_FIELDS = frozenset(
    {
        "add_generation_prompt",
        "add_special_tokens",
        "allowed_token_ids",
        "bad_words",
        "cache_salt",
        "chat_template",
        "chat_template_kwargs",
        "continue_final_message",
        "documents",
        "frequency_penalty",
        "ignore_eos",
        "include_stop_str_in_output",
        "logit_bias",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "min_p",
        "min_tokens",
        "model",
        "n",
        "presence_penalty",
        "priority",
        "prompt",
        "repetition_penalty",
        "response_format",
        "seed",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop",
        "stop_token_ids",
        "stream",
        "stream_options",
        "structured_outputs",
        "temperature",
        "top_k",
        "top_p",
        "truncate_prompt_tokens",
        "user",
    }
)
"""The fields of a request whose chunks differ in their text only. vLLM's generator writes the chunks of a request with
other fields of vLLM, also with fields that a new vLLM adds. Fields that vLLM does not know have no effect."""

HARMLESS_MIDDLEWARE = ("vllm.", "forebay_server.", "prometheus_fastapi_instrumentator.", "starlette.middleware.cors")
"""Prefixes of the modules whose middleware reads only the head of an answer."""


class TextStream:
    """One streamed answer on its way from the engine to vLLM's generator and to the client.

    `key` is the JSON key of the text in a chunk, with its colon.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._taps = 0
        self._text = ""
        self._frame: tuple[bytes, bytes] | None = None
        self._send: Send | None = None

    def tap(self, results: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        """The engine's `results` for vLLM's generator, without those that are sent directly."""
        self._taps += 1
        return self._send_plain(results)

    async def _send_plain(self, results: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        """Send plain text directly and yield the rest. The next result also gets the sent tokens, so the usage includes
        them."""
        sent: list[int] = []
        async for result in results:
            if self._frame is not None and self._send is not None and (output := _plain(result)) is not None:
                before, after = self._frame
                sent += output.token_ids
                await self._send(_body(before + _encode(output.text).encode() + after))
                continue
            if sent:
                result.outputs[0].token_ids = [*sent, *result.outputs[0].token_ids]
                sent = []
            if (output := _plain(result)) is not None:
                self._text = output.text
            yield result

    def begin(self, send: Send) -> None:
        """Call it when the head of the answer is sent. Chunks then go to `send`, unless there are several prompts."""
        self._send = send if self._taps == 1 else None

    def learn(self, chunk: str) -> None:
        """Learn the frame from a chunk of vLLM's generator, if it is the first one with text."""
        if self._frame is None and self._text:
            before, text, after = chunk.partition(self._key + _encode(self._text))
            if text:
                self._frame = (before + self._key).encode(), after.encode()


class TextStreamResponse(StreamingResponse):  # type: ignore[misc]
    """Sends vLLM's chunks, with those of `stream` between them. It sends the body by `direct`, if that is set."""

    def __init__(self, chunks: AsyncIterator[str], stream: TextStream, direct: Send | None) -> None:
        super().__init__(chunks, media_type="text/event-stream")
        self._stream = stream
        self._direct = direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer like Starlette's class, but with one asyncio task instead of a task group."""
        writer = asyncio.current_task()
        assert writer is not None
        finished = disconnected = False

        async def stop_on_disconnect() -> None:
            nonlocal disconnected
            await self.listen_for_disconnect(receive)
            if not finished:
                disconnected = True
                writer.cancel()

        listening = asyncio.create_task(stop_on_disconnect())
        try:
            await self.stream_response(send)
        except asyncio.CancelledError:
            if not disconnected or writer.uncancel():
                raise
        finally:
            finished = True
            listening.cancel()
        if self.background is not None:
            await self.background()

    async def stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        write = self._direct or send
        self._stream.begin(write)
        async for chunk in self.body_iterator:
            assert isinstance(chunk, str)
            await write(_body(chunk.encode()))
            self._stream.learn(chunk)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


_stream: ContextVar[TextStream | None] = ContextVar("forebay_text_stream", default=None)


def tap_engine(engine_client: Any) -> None:
    """Let the TextStream of a request tap the results that this engine client generates for it."""
    generate = engine_client.generate

    @functools.wraps(generate)
    def tapped(*args: Any, **kwargs: Any) -> Any:
        results = generate(*args, **kwargs)
        stream = _stream.get()
        return results if stream is None else stream.tap(results)

    engine_client.generate = tapped


async def answer(
    handler: Callable[[Any, Request], Awaitable[Any]], request: Any, raw_request: Request, stream: TextStream
) -> Any:
    """Call vLLM's handler. Returns a TextStreamResponse, or the error that the handler returned."""
    restore = _stream.set(stream)
    try:
        chunks = await handler(request, raw_request)
    finally:
        _stream.reset(restore)
    if not hasattr(chunks, "__aiter__"):
        return chunks
    direct = raw_request.scope.get(DIRECT) if only_harmless(raw_request.app) else None
    return TextStreamResponse(chunks, stream, direct)


def is_plain(request: Any, serving: Any, state: Any) -> bool:
    """Whether the answer's chunks differ in their text only; False if this is not certain. `state` is the app's
    state."""
    options = request.stream_options
    arguments = getattr(state, "args", None)
    return bool(
        request.stream
        and serving is not None
        and request.model_fields_set - (request.model_extra or {}).keys() <= PLAIN_FIELDS
        and (request.n or 1) == 1
        and not (options and options.continuous_usage_stats)
        and _passes_text(getattr(serving, "parser_cls", None))
        and not getattr(arguments, "enable_force_include_usage", True)
        and not getattr(arguments, "enable_log_outputs", True)
        and not getattr(arguments, "sse_keep_alive_interval", 0)
    )


def _passes_text(parser: Any) -> bool:
    """Whether vLLM's parser of answers leaves the text unchanged if the request has no tools.

    True without a parser, and for a parser that consists of a tool parser alone (DelegatingParser, seen with 0.26 and
    0.32). False if that tool parser parses the text while it streams.
    """
    if parser is None:
        return True
    return (
        getattr(parser.__base__, "__name__", "") == "DelegatingParser"
        and getattr(parser, "reasoning_parser_cls", parser) is None
        and getattr(getattr(parser, "tool_parser_cls", None), "engine_based_streaming", True) is False
    )


def only_harmless(app: Any) -> bool:
    """Whether no middleware may read the body of an answer. Returns False if the user has added middleware."""
    return all(middleware.cls.__module__.startswith(HARMLESS_MIDDLEWARE) for middleware in app.user_middleware)


_encode = json.encoder.encode_basestring
"""Encodes text as JSON without ASCII escapes, like vLLM. It is a C function if Python has one."""


def _plain(result: Any) -> Any:
    """The only output of a result, if it has text and does not end the answer; else None.

    A token that is a part of a character has no text. With a tool parser, vLLM sends no chunk for it; without one, it
    sends an empty chunk.
    """
    outputs = result.outputs
    if len(outputs) == 1 and outputs[0].finish_reason is None and outputs[0].text and not result.finished:
        return outputs[0]
    return None


def _body(content: bytes) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": True}
