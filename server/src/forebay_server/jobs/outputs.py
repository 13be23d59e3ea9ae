"""The output of a job, item by item, made of the answer that the OpenAI API gave."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from forebay_server.asgi_client import AppReply
from forebay_server.config.settings import JobSettings
from forebay_server.jobs.calls import Call, Form, JobError

DONE = "[DONE]"


class OutputBatches:
    """How many tokens or chunks an item has: the least, then so many times more each time, up to the most.

    With the defaults: 1, 3, 9, 27, 50, 50, … As in worker-vllm all items have the most when the numbers do not grow.
    """

    def __init__(self, most: float, least: float, growth: float) -> None:
        self._most = most
        self._growth = growth
        self._grows = growth > 1 and least >= 1 and most > least
        self._size = least if self._grows else most

    def full(self, count: int) -> bool:
        """Whether an item with `count` is complete; if so the next may be larger."""
        if count < self._size:
            return False
        if self._grows:
            self._size = min(self._size * self._growth, self._most)
        return True


def batches(call: Call, settings: JobSettings) -> OutputBatches:
    """The job's own batch sizes, or the server's. Events of a route come one by one where the job has none."""
    if call.form is Form.ROUTE and not call.batching:
        return OutputBatches(1, 1, 1)
    return OutputBatches(
        call.batching.get("max_batch_size", settings.batch_size),
        call.batching.get("min_batch_size", settings.min_batch_size),
        call.batching.get("batch_size_growth_factor", settings.batch_size_growth_factor),
    )


async def emit(call: Call, reply: AppReply, settings: JobSettings) -> AsyncGenerator[object, None]:
    """The items of the job's output as they come to be.

    Raises JobError for an error, at once or within a stream, unless the call asks for the whole answer.
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
    """Items with a list of tokens for each of the `choices`, and the usage from the first item to this one."""
    tokens: list[list[str]] = [[] for _ in range(choices)]
    written = [0] * choices
    read = count = 0

    def item() -> dict[str, Any]:
        lists = [{"tokens": texts} for texts in tokens]
        return {"choices": lists, "usage": {"input": read, "output": sum(written)}}

    async for event in _events(reply):
        if event == DONE:
            continue
        chunk = json.loads(event)
        usage = chunk.get("usage") or {}
        read = usage.get("prompt_tokens", read)
        for choice in chunk.get("choices", ()):
            text = _text(choice)
            if text is None:
                continue
            index = choice["index"]
            tokens[index].append(text)
            written[index] = usage.get("completion_tokens") or written[index] + 1
            count += 1
        if count and sizes.full(count):
            yield item()
            tokens = [[] for _ in range(choices)]
            count = 0
    if count:
        yield item()


def _text(choice: dict[str, Any]) -> str | None:
    """The new text of a choice; None where a chat's chunk has none, such as the first, which has only the role."""
    if "text" in choice:
        return str(choice["text"])
    delta = choice.get("delta", {})
    content = delta.get("content")
    return None if content is None or ("role" in delta and not content) else str(content)


def _tokens(content: dict[str, Any]) -> dict[str, Any]:
    """A completion or chat completion as worker-vllm gave it: the whole text is one token."""
    choices = sorted(content["choices"], key=lambda choice: int(choice["index"]))
    texts = [choice["text"] if "text" in choice else choice["message"].get("content") or "" for choice in choices]
    usage = content["usage"]
    return {
        "choices": [{"tokens": [text]} for text in texts],
        "usage": {"input": usage["prompt_tokens"], "output": usage.get("completion_tokens") or 0},
    }


async def _events(reply: AppReply) -> AsyncIterator[str]:
    """The data of server-sent events, whatever pieces they arrive in. Raises JobError for an error among them."""
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
    """JSON, or the text of a route that answers in another way."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _error_message(body: bytes, status: int) -> str:
    content = _parsed(body)
    error = content.get("error", content) if isinstance(content, dict) else content
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or f"The request was answered with status {status}.")
