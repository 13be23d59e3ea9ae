"""Which request to the OpenAI API a job's input stands for: pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from forebay_protocol.spelling import suggest
from forebay_server.compat.request_fields import CHAT, COMPLETIONS, GUIDED


class Form(StrEnum):
    """What the job's output looks like."""

    TOKENS = "tokens"
    """{"choices": [{"tokens": […]}], "usage": {"input", "output"}}: for prompt and messages."""
    OPENAI = "openai"
    """OpenAI's object, or its stream as RAW_OPENAI_OUTPUT says: for openai_route and openai_input."""
    ROUTE = "route"
    """What the route answers, or its events one by one: for route, and for prompt and messages with RAW_VLLM_OUTPUT."""
    WHOLE_ANSWER = "whole answer"
    """{"status_code", "body"} of what the route answers, errors too: for route with whole_answer, as the gateway sends
    the lines of batches."""


class JobError(Exception):
    """The job fails; the message is for the caller."""


@dataclass(frozen=True)
class Call:
    """One request, and how its answer becomes the job's output."""

    method: str
    path: str
    body: dict[str, Any] | None
    form: Form
    batching: dict[str, float] = field(default_factory=dict)
    """What the input says of batch sizes: any of the keys of BATCHING."""


DEFAULT_MAX_TOKENS = 100
"""Of prompt and messages: what worker-vllm took (its documentation says 16)."""

BATCHING = ("max_batch_size", "min_batch_size", "batch_size_growth_factor")

SAMPLING = frozenset(
    {
        "allowed_token_ids",
        "bad_words",
        "chat_template_kwargs",
        "frequency_penalty",
        "ignore_eos",
        "include_stop_str_in_output",
        "length_penalty",
        "logit_bias",
        "max_completion_tokens",
        "max_tokens",
        "min_p",
        "min_tokens",
        "n",
        "presence_penalty",
        "repetition_penalty",
        "response_format",
        "seed",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop",
        "stop_token_ids",
        "structured_outputs",
        "temperature",
        "thinking_token_budget",
        "top_k",
        "top_p",
        "truncate_prompt_tokens",
        "use_beam_search",
        "vllm_xargs",
    }
)
"""Sampling parameters that OpenAI's API of vLLM takes by the same name."""

RENAMED = {"guided_decoding": "structured_outputs"}

UNUSED = frozenset({"best_of", "detokenize", "early_stopping", "output_kind"})
"""Those that vLLM has no more. best_of must not ask for more than n."""

NO_PLACE = frozenset({"logprobs", "prompt_logprobs"})
"""Those that this output has no place for."""

NATIVE_PLACE, OPENAI_PLACE, ROUTE_PLACE = "input.sampling_params", "input.openai_input", "input.body"
"""Where the options of the request are: beside prompt or messages, beside openai_route, beside route."""

NATIVE = ("messages", "prompt", "sampling_params", "stream")
"""What an input with prompt or messages has, and no other."""

NOTHING: tuple[Any, ...] = (None, "", [])
"""Values that ask for nothing, wherever they stand."""

STREAM_OPTIONS = {"include_usage": True, "continuous_usage_stats": True}
"""Each chunk then counts the tokens so far."""


def call_of(content: object, model: str, *, raw: bool = False) -> Call:
    """The request for the input of a job; `model` where the input names none. Raises JobError.

    `raw` (RAW_VLLM_OUTPUT): prompt and messages are what RunPod's worker makes of them since 2026-08: the request has
    what sampling_params says and nothing else, and its answer is the output as it is.
    """
    if not isinstance(content, dict):
        raise JobError("input must be an object.")
    if content.get("openai_route") or content.get("openai_input"):
        path = content.get("openai_route") or CHAT
        body = content.get("openai_input") or None
        _check_places(content, OPENAI_PLACE, {*NATIVE})
        return _call("POST" if body else "GET", path, body, Form.OPENAI, _batching(content))
    if content.get("route"):
        body = content.get("body")
        method = content.get("method") or ("POST" if body else "GET")
        if not isinstance(method, str):
            raise JobError("input.method must be a word such as GET or POST.")
        _check_places(content, ROUTE_PLACE, {*NATIVE, *BATCHING})
        form = Form.WHOLE_ANSWER if content.get("whole_answer") else Form.ROUTE
        return _call(method.upper(), content["route"], body, form)
    _check_places(content, NATIVE_PLACE, set())
    return _native(content, model, raw=raw)


def _check_places(content: Mapping[str, Any], place: str, more: set[str]) -> None:
    """Raise JobError for an option that has no effect where it stands, as RunPod's workers ignored it there. `place`
    has the options of the request, which are `more` beside those of vLLM."""
    elsewhere = {*SAMPLING, *RENAMED, *GUIDED, *more}
    for name in content:
        if name in elsewhere and content[name] not in NOTHING:
            raise JobError(f"input.{name} has no effect where it stands: it belongs in {place}.")


def _call(method: str, path: object, body: object, form: Form, batching: dict[str, float] | None = None) -> Call:
    if not isinstance(path, str) or not path:
        raise JobError("The route must be a path such as /v1/chat/completions.")
    if body is not None and not isinstance(body, dict):
        raise JobError("The body of the request must be an object.")
    return Call(method, "/" + path.removeprefix("/"), body, form, batching or {})


def _native(content: Mapping[str, Any], model: str, *, raw: bool) -> Call:
    prompt = content.get("messages") or content.get("prompt")
    if not prompt:
        raise JobError("input needs one of prompt, messages, openai_input and route.")
    if isinstance(prompt, str) and content.get("apply_chat_template"):
        prompt = [{"role": "user", "content": prompt}]
    chat = isinstance(prompt, list) and isinstance(prompt[0], dict)
    parameters = content.get("sampling_params") or {}
    if not isinstance(parameters, dict):
        raise JobError("sampling_params must be an object.")
    named = content.get("model") or model
    body: dict[str, Any] = {**parameters, "model": named or parameters.get("model")} if raw else {"model": named}
    body |= {} if raw else _sampling(parameters)
    if not chat and body.get("chat_template_kwargs") is not None:
        raise JobError("sampling_params.chat_template_kwargs needs messages, or apply_chat_template with the prompt.")
    if raw:
        body["stream"] = bool(content.get("stream"))
    elif content.get("stream"):
        body |= {"stream": True, "stream_options": STREAM_OPTIONS}
    path, field_name = (CHAT, "messages") if chat else (COMPLETIONS, "prompt")
    form = Form.ROUTE if raw else Form.TOKENS
    return Call("POST", path, {**body, field_name: prompt}, form, _batching(content))


def _batching(content: Mapping[str, Any]) -> dict[str, float]:
    return {name: _positive(content[name], name) for name in BATCHING if content.get(name)}


def _sampling(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling parameters of vLLM as fields of a request. A name that is none fails the job, as it did there."""
    fields: dict[str, Any] = {"max_tokens": DEFAULT_MAX_TOKENS} if "max_completion_tokens" not in parameters else {}
    for name, value in parameters.items():
        if name in UNUSED:
            continue
        if name in NO_PLACE:
            if value is not None and value is not False:
                raise JobError(
                    f"sampling_params.{name} has no effect: this output has no place for it. Use openai_input."
                )
            continue
        if name not in SAMPLING and name not in RENAMED and name not in GUIDED:
            raise JobError(f"sampling_params has no {name}.{suggest(str(name), SAMPLING)}")
        fields[RENAMED.get(str(name), str(name))] = value
    best_of = parameters.get("best_of")
    if best_of not in (None, 1, parameters.get("n", 1)):
        raise JobError(f"sampling_params: best_of={best_of} cannot be had: vLLM has removed it.")
    return fields


def _positive(value: object, name: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number < float("inf"):
        raise JobError(f"{name} must be a number above 0.")
    return number
