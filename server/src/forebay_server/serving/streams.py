"""Streamed text, written from the engine to the socket.

vLLM builds an object for each token, dumps it as JSON and hands it through every layer of the app. Of one answer's
chunks nearly all differ in their text only. So vLLM's own generator writes the first ones, the last one, and whatever
is not plain text; what it wrote around the first text is the frame for the texts between, which are sent as they come
out of the engine, one chunk for one result as vLLM does it. Nothing of a chunk's form is known here.

The seam is the engine client's `generate` (vLLM's EngineClient protocol), tapped on the one object that vLLM made.
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
"""What a request may ask for so that its chunks differ in text only. What a new vLLM adds is left to vLLM, and fields
that vLLM does not know have no effect."""

HARMLESS_MIDDLEWARE = ("vllm.", "forebay_server.", "prometheus_fastapi_instrumentator.", "starlette.middleware.cors")
"""Modules whose middleware looks at the head of an answer only."""


class TextStream:
    """One answer: what passes between the engine, vLLM's generator and the client.

    `key` is the JSON key of the text in a chunk, with its colon.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._taps = 0
        self._text = ""
        self._frame: tuple[bytes, bytes] | None = None
        self._send: Send | None = None

    def tap(self, results: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        """`results` of the engine for vLLM's generator, less those that are sent from here."""
        self._taps += 1
        return self._left_to_vllm(results)

    async def _left_to_vllm(self, results: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        """The tokens of what is sent count: the next result has them too, as if it had come late."""
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
        """The head of the answer is sent: chunks may follow by `send`. Several prompts share no frame."""
        self._send = send if self._taps == 1 else None

    def learn(self, chunk: str) -> None:
        """vLLM's generator made this chunk."""
        if self._frame is None and self._text:
            before, text, after = chunk.partition(self._key + _encode(self._text))
            if text:
                self._frame = (before + self._key).encode(), after.encode()


class TextStreamResponse(StreamingResponse):  # type: ignore[misc]
    """vLLM's chunks, with those of `stream` between them; bodies by `direct` where it is given."""

    def __init__(self, chunks: AsyncIterator[str], stream: TextStream, direct: Send | None) -> None:
        super().__init__(chunks, media_type="text/event-stream")
        self._stream = stream
        self._direct = direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As Starlette's, with one task of asyncio where it takes a task group."""
        writer = asyncio.current_task()
        assert writer is not None
        over = left = False

        async def stop_when_the_client_leaves() -> None:
            nonlocal left
            await self.listen_for_disconnect(receive)
            if not over:
                left = True
                writer.cancel()

        listening = asyncio.create_task(stop_when_the_client_leaves())
        try:
            await self.stream_response(send)
        except asyncio.CancelledError:
            if not left or writer.uncancel():
                raise
        finally:
            over = True
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
    """Let what this engine client generates be tapped by the stream of the request, where it has one."""
    generate = engine_client.generate

    @functools.wraps(generate)
    def tapped(*args: Any, **kwargs: Any) -> Any:
        results = generate(*args, **kwargs)
        stream = _stream.get()
        return results if stream is None else stream.tap(results)

    engine_client.generate = tapped


async def answer(
    ask: Callable[[Any, Request], Awaitable[Any]], request: Any, raw_request: Request, stream: TextStream
) -> Any:
    """What vLLM's handler answers: a TextStreamResponse, or the error that it returned."""
    restore = _stream.set(stream)
    try:
        chunks = await ask(request, raw_request)
    finally:
        _stream.reset(restore)
    if not hasattr(chunks, "__aiter__"):
        return chunks
    direct = raw_request.scope.get(DIRECT) if only_harmless(raw_request.app) else None
    return TextStreamResponse(chunks, stream, direct)


def is_plain(request: Any, serving: Any, state: Any) -> bool:
    """Whether the chunks of the answer differ in text only. `state` is the app's; what is not known means no."""
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
    """Whether vLLM's parser of answers leaves the text of a request without tools as it is.

    True for one that is put together from a tool parser alone, where that does not take text apart as it comes (seen
    with 0.26 and 0.32: DelegatingParser).
    """
    if parser is None:
        return True
    return (
        getattr(parser.__base__, "__name__", "") == "DelegatingParser"
        and getattr(parser, "reasoning_parser_cls", parser) is None
        and getattr(getattr(parser, "tool_parser_cls", None), "engine_based_streaming", True) is False
    )


def only_harmless(app: Any) -> bool:
    """Whether no middleware of the user's could want to see the body of an answer."""
    return all(each.cls.__module__.startswith(HARMLESS_MIDDLEWARE) for each in app.user_middleware)


_encode = json.encoder.encode_basestring
"""Text as JSON, in UTF-8 as vLLM has it: the C function where there is one."""


def _plain(result: Any) -> Any:
    """The one output of a result that is text and no end; None for any other."""
    outputs = result.outputs
    if len(outputs) == 1 and outputs[0].finish_reason is None and outputs[0].token_ids and not result.finished:
        return outputs[0]
    return None


def _body(content: bytes) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": True}
