"""Converts an answer of the OpenAI API to the output of a job, item by item.

The runner of jobs calls it for each answer and for each event of a stream.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from forebay_server.asgi_client import AppReply
from forebay_server.config.settings import JobSettings
from forebay_server.jobs.calls import Call, Form
from forebay_server.jobs.options import JobError

DONE = "[DONE]"


class OutputBatches:
    """The sizes of consecutive items, in tokens or chunks. They grow by the factor `growth` up to `max_size`.

    With the defaults: 1, 3, 9, 27, 50, 50, … As in worker-vllm, all items have `max_size` if the sizes cannot grow.
    """

    def __init__(self, max_size: float, min_size: float, growth: float) -> None:
        self._max_size = max_size
        self._growth = growth
        self._grows = growth > 1 and min_size >= 1 and max_size > min_size
        self._size = min_size if self._grows else max_size

    def full(self, count: int) -> bool:
        """Whether an item of `count` tokens or chunks is complete. If it is, the next one may be larger."""
        if count < self._size:
            return False
        if self._grows:
            self._size = min(self._size * self._growth, self._max_size)
        return True


def batches(call: Call, settings: JobSettings) -> OutputBatches:
    """The batch sizes of the job, else of the server. Events of a route come one by one unless the job sets sizes."""
    if call.form is Form.ROUTE and not call.batching:
        return OutputBatches(1, 1, 1)
    return OutputBatches(
        call.batching.get("max_batch_size", settings.batch_size),
        call.batching.get("min_batch_size", settings.min_batch_size),
        call.batching.get("batch_size_growth_factor", settings.batch_size_growth_factor),
    )


async def emit(call: Call, reply: AppReply, settings: JobSettings) -> AsyncGenerator[object, None]:
    """Yield the items of the job's output as the answer arrives.

    Raises JobError for an error, at the beginning or within a stream, unless the call asks for the whole answer.
    """
    if call.form is Form.WHOLE_ANSWER:
        yield {"status_code": reply.status, "body": _parsed(await _all(reply))}
        return
    if reply.status >= 400:
        raise JobError(_error_message(await _all(reply), reply.status))
    if not reply.is_stream:
        content = _parsed(await _all(reply))
        yield _tokens(content) if call.form is Form.TOKENS else content
        return
    if call.form is Form.TOKENS:
        choices = int((call.body or {}).get("n") or 1)
        async for item in _token_items(reply, batches(call, settings), choices):
            yield item
    else:
        async for chunks in _grouped(reply, batches(call, settings)):
            if call.form is Form.ROUTE or settings.raw_openai_output:
                yield "".join(f"data: {chunk}\n\n" for chunk in chunks)
            elif parsed := [json.loads(chunk) for chunk in chunks if chunk != DONE]:
                yield parsed


async def _grouped(reply: AppReply, sizes: OutputBatches) -> AsyncIterator[list[str]]:
    group: list[str] = []
    async for event in _events(reply):
        group.append(event)
        if sizes.full(len(group)):
            yield group
            group = []
    if group:
        yield group


async def _token_items(reply: AppReply, sizes: OutputBatches, choices: int) -> AsyncIterator[dict[str, Any]]:
    """Yield items with a list of tokens for each of the `choices`, and the usage up to this item."""
    tokens: list[list[str]] = [[] for _ in range(choices)]
    output_tokens = [0] * choices
    input_tokens = count = 0

    def item() -> dict[str, Any]:
        lists = [{"tokens": texts} for texts in tokens]
        return {"choices": lists, "usage": {"input": input_tokens, "output": sum(output_tokens)}}

    async for event in _events(reply):
        if event == DONE:
            continue
        chunk = json.loads(event)
        usage = chunk.get("usage") or {}
        input_tokens = usage.get("prompt_tokens", input_tokens)
        for choice in chunk.get("choices", ()):
            text = _text(choice)
            if text is None:
                continue
            index = choice["index"]
            tokens[index].append(text)
            output_tokens[index] = usage.get("completion_tokens") or output_tokens[index] + 1
            count += 1
        if count and sizes.full(count):
            yield item()
            tokens = [[] for _ in range(choices)]
            count = 0
    if count:
        yield item()


def _text(choice: dict[str, Any]) -> str | None:
    """The new text of a choice. None for a chat's chunk without text, such as the first, which has only the role."""
    if "text" in choice:
        return str(choice["text"])
    delta = choice.get("delta", {})
    content = delta.get("content")
    return None if content is None or ("role" in delta and not content) else str(content)


def _tokens(content: dict[str, Any]) -> dict[str, Any]:
    """Convert a completion or chat completion to worker-vllm's form: the whole text is one token."""
    choices = sorted(content["choices"], key=lambda choice: int(choice["index"]))
    texts = [choice["text"] if "text" in choice else choice["message"].get("content") or "" for choice in choices]
    usage = content["usage"]
    return {
        "choices": [{"tokens": [text]} for text in texts],
        "usage": {"input": usage["prompt_tokens"], "output": usage.get("completion_tokens") or 0},
    }


async def _events(reply: AppReply) -> AsyncIterator[str]:
    """Yield the data of server-sent events, which may arrive in any pieces. Raises JobError for an error event."""
    rest = b""
    async for piece in reply.body:
        *complete, rest = (rest + piece).split(b"\n\n")
        for event in complete:
            lines = (line for line in event.decode().split("\n") if line.startswith("data:"))
            data = "\n".join(line.removeprefix("data:").removeprefix(" ") for line in lines)
            if data.startswith('{"error"'):
                raise JobError(_error_message(data.encode(), 500))
            if data:
                yield data


async def _all(reply: AppReply) -> bytes:
    return b"".join([piece async for piece in reply.body])


def _parsed(body: bytes) -> Any:
    """Parse an answer as JSON. Returns the text of an answer that is not JSON."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _error_message(body: bytes, status: int) -> str:
    content = _parsed(body)
    error = content.get("error", content) if isinstance(content, dict) else content
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or f"The request was answered with status {status}.")
