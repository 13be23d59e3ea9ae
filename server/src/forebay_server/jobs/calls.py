"""Converts a job's input to a request to the OpenAI API. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from forebay_server.api_compat.paths import CHAT, COMPLETIONS
from forebay_server.jobs.options import (
    BATCHING,
    NATIVE,
    NATIVE_PLACE,
    OPENAI_PLACE,
    ROUTE_PLACE,
    JobError,
    refuse_misplaced,
    sampling_fields,
)


class Form(StrEnum):
    """The form of a job's output."""

    TOKENS = "tokens"
    """{"choices": [{"tokens": […]}], "usage": {"input", "output"}}: for prompt and messages."""
    OPENAI = "openai"
    """OpenAI's object, or its stream as RAW_OPENAI_OUTPUT says. Used for openai_route and openai_input."""
    ROUTE = "route"
    """The route's answer, or its events one by one. For route, and for prompt and messages with RAW_VLLM_OUTPUT."""
    WHOLE_ANSWER = "whole answer"
    """{"status_code", "body"} of the route's answer, also of an error: for route with whole_answer, which the gateway
    sends for the lines of batches."""


@dataclass(frozen=True)
class Call:
    """One request, and how its answer becomes the job's output."""

    method: str
    path: str
    body: dict[str, Any] | None
    form: Form
    batching: dict[str, float] = field(default_factory=dict)
    """The batch sizes that the input sets, by keys of BATCHING."""


STREAM_OPTIONS = {"include_usage": True, "continuous_usage_stats": True}
"""With these options each chunk has the number of tokens so far."""


def call_of(content: object, *, raw: bool = False) -> Call:
    """Convert a job's input to the request that it stands for. Its model is None if neither input nor sampling_params
    name one.

    Args:
        content: the input.
        raw: RAW_VLLM_OUTPUT, for prompt and messages, as RunPod's worker treats them since 2026-08. The request has the
            fields of sampling_params and no others, and its answer is the job's output unchanged.

    Raises:
        JobError: the input is not valid.
    """
    if not isinstance(content, dict):
        raise JobError("input must be an object.")
    if content.get("openai_route") or content.get("openai_input"):
        path = content.get("openai_route") or CHAT
        body = content.get("openai_input") or None
        refuse_misplaced(content, OPENAI_PLACE, {*NATIVE}, raw=raw)
        return _call("POST" if body else "GET", path, body, Form.OPENAI, _batching(content))
    if content.get("route"):
        body = content.get("body")
        method = content.get("method") or ("POST" if body else "GET")
        if not isinstance(method, str):
            raise JobError("input.method must be a word such as GET or POST.")
        refuse_misplaced(content, ROUTE_PLACE, {*NATIVE, *BATCHING}, raw=raw)
        form = Form.WHOLE_ANSWER if content.get("whole_answer") else Form.ROUTE
        return _call(method.upper(), content["route"], body, form)
    refuse_misplaced(content, NATIVE_PLACE, set(), raw=raw)
    return _native(content, raw=raw)


def _call(method: str, path: object, body: object, form: Form, batching: dict[str, float] | None = None) -> Call:
    if not isinstance(path, str) or not path.isprintable() or not path:
        raise JobError("The route must be a path such as /v1/chat/completions.")
    if body is not None and not isinstance(body, dict):
        raise JobError("The body of the request must be an object.")
    return Call(method, "/" + path.removeprefix("/"), body, form, batching or {})


def _native(content: Mapping[str, Any], *, raw: bool) -> Call:
    prompt = content.get("messages") or content.get("prompt")
    if not prompt:
        raise JobError("input needs one of prompt, messages, openai_input and route.")
    if isinstance(prompt, str) and content.get("apply_chat_template"):
        prompt = [{"role": "user", "content": prompt}]
    chat = isinstance(prompt, list) and isinstance(prompt[0], dict)
    parameters = content.get("sampling_params") or {}
    if not isinstance(parameters, dict):
        raise JobError("sampling_params must be an object.")
    path, field_name = (CHAT, "messages") if chat else (COMPLETIONS, "prompt")
    fields = sampling_fields(parameters, path, raw=raw)
    body: dict[str, Any] = {**fields, "model": content.get("model") or fields.get("model")}
    if raw:
        body["stream"] = bool(content.get("stream"))
    elif content.get("stream"):
        body |= {"stream": True, "stream_options": STREAM_OPTIONS}
    form = Form.ROUTE if raw else Form.TOKENS
    return Call("POST", path, {**body, field_name: prompt}, form, _batching(content))


def _batching(content: Mapping[str, Any]) -> dict[str, float]:
    return {name: _positive(content[name], name) for name in BATCHING if content.get(name)}


def _positive(value: object, name: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (OverflowError, TypeError, ValueError):
        number = 0.0
    if not 0 < number < float("inf"):
        raise JobError(f"{name} must be a number above 0.")
    return number
