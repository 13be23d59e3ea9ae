"""The options of a job: which options a request has, and where they belong in the input. Pure."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from forebay_protocol.errors import shorten
from forebay_protocol.spelling import edit_distance, suggest
from forebay_server.api_compat.paths import CHAT, COMPLETIONS
from forebay_server.api_compat.request_fields import GUIDED
from forebay_server.api_compat.unsupported_fields import NO_EFFECT


class JobError(Exception):
    """The job fails; the message is for the caller."""


DEFAULT_MAX_TOKENS = 100
"""The default for prompt and messages in worker-vllm's code (its documentation says 16)."""

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
"""Sampling parameters that have the same name in vLLM's OpenAI API."""

RENAMED = {"guided_decoding": "structured_outputs"}

REMOVED_PARTS = ("backend", "disable_fallback")
"""Parts of guided_decoding that structured_outputs lacks. vLLM chooses the backend itself."""

UNUSED = frozenset({"best_of", "detokenize", "early_stopping", "output_kind"})
"""Sampling parameters that vLLM has removed. best_of must not exceed n."""

CHAT_ONLY = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "chat_template_kwargs",
        "continue_final_message",
        "documents",
        "function_call",
        "functions",
        "include_reasoning",
        "max_completion_tokens",
        "media_io_kwargs",
        "mm_processor_kwargs",
        "modalities",
        "parallel_tool_calls",
        "reasoning_effort",
        "return_prompt_text",
        "tool_choice",
        "tools",
        "top_logprobs",
    }
)
COMPLETION_ONLY = frozenset({"prompt_embeds", "suffix"})
"""Fields that only one of the two requests has, also those that the server handles instead of vLLM."""

OWN_NAMES = frozenset({"model", "request_id", "session_id"})
"""Fields of a request that do not change its tokens. Clients may have fields of their own by these names."""

OPTIONS = (
    SAMPLING
    | CHAT_ONLY
    | COMPLETION_ONLY
    | RENAMED.keys()
    | GUIDED.keys()
    | {
        "add_special_tokens",
        "cache_salt",
        "ec_transfer_params",
        "echo",
        "guided_decoding_backend",
        "kv_transfer_params",
        "logprob_token_ids",
        "logprobs",
        "mm_payload",
        "priority",
        "prompt_logprobs",
        "repetition_detection",
        "return_mm_kwargs",
        "return_token_ids",
        "return_token_offsets",
        "return_tokens_as_token_ids",
        "routed_experts_prompt_start",
        "stream_interval",
        "stream_options",
        "truncation_side",
        "user",
        "watermarking",
    }
)
"""All options of a chat completion and of a completion.

Source: ChatCompletionRequest and CompletionRequest of vLLM 0.32.
"""

NATIVE_OPTIONS = SAMPLING | RENAMED.keys() | GUIDED.keys() | {"guided_decoding_backend"}
"""The sampling_params for an output of tokens. The last one is rejected with the reason."""

NATIVE_PLACE, OPENAI_PLACE, ROUTE_PLACE = "input.sampling_params", "input.openai_input", "input.body"
"""Where the options belong: with prompt or messages, with openai_route, with route."""

NATIVE = ("messages", "prompt", "sampling_params", "stream")
"""The fields of an input with prompt or messages. Other forms of input lack these fields."""

INPUT_NAMES = frozenset(
    {
        *NATIVE,
        *BATCHING,
        "apply_chat_template",
        "body",
        "method",
        "openai_input",
        "openai_route",
        "route",
        "whole_answer",
    }
)
"""All fields of all forms of an input, except model."""

NOTHING: tuple[Any, ...] = (None, "", [])
"""Values that mean "unset" for every option."""

OFF_BY_DEFAULT = ("echo", "logprobs", "prompt_logprobs")
"""Options for which false means "unset" too."""

MAX_COMPARED = 64
"""The most unknown names of an input that are compared with known names, as a comparison takes time."""

PLAIN_WORD = 5
"""The most letters of a name without an underscore that is treated as the client's own word, such as stop."""


def refuse_misplaced(content: Mapping[str, Any], place: str, more: set[str], *, raw: bool) -> None:
    """Raise JobError for an option at a place where it has no effect. RunPod's workers ignored it.

    A name that is neither an option nor similar to one is the client's own.

    Args:
        content: the input.
        place: where the options belong in this form of an input.
        more: further fields that belong at `place`, or have no effect, in this form.
        raw: whether sampling_params have all fields of a request.
    """
    unknown = []
    for name, value in content.items():
        if value in NOTHING:
            continue
        if name in more or name in OPTIONS:
            raise JobError(f"input.{name} has no effect here: it belongs in {_place(name, place, raw)}.")
        if name not in INPUT_NAMES and name not in OWN_NAMES:
            unknown.append(name)
    for name in islice(unknown, MAX_COMPARED):
        if nearest := _find_like(name):
            where = "" if nearest in INPUT_NAMES else f" It belongs in {_place(nearest, place, raw)}."
            raise JobError(f"input.{name} is unknown. Did you mean {nearest}?{where}")


def _place(name: str, place: str, raw: bool) -> str:
    if place != NATIVE_PLACE or raw or name in NATIVE_OPTIONS:
        return place
    return f"{OPENAI_PLACE}, with input.openai_route"


def _find_like(name: str) -> str:
    """Find a known name that differs from `name` by one letter, by case or by underscores. Returns "" if no name does.

    This is stricter than a suggestion, since clients have names of their own: userId is not user.
    """
    plain = _plain(name)
    limit = int(len(plain) > PLAIN_WORD)
    similar = [(letters, known) for letters, known in COMPARED if abs(len(letters) - len(plain)) <= limit]
    distances = ((edit_distance(plain, letters, limit), known) for letters, known in similar)
    distance, nearest = min(distances, default=(2, ""))
    return nearest if distance <= limit else ""


def _plain(name: str) -> str:
    return name[:64].lower().replace("_", "").replace("-", "")


COMPARED = tuple(
    (_plain(name), name) for name in (OPTIONS | INPUT_NAMES) - {"documents"} if "_" in name or len(name) > PLAIN_WORD
)
"""(letters alone, name) of the known names that an unknown name is compared with."""


def sampling_fields(parameters: Mapping[str, Any], path: str, *, raw: bool) -> dict[str, Any]:
    """Convert sampling parameters to fields of a request to `path`.

    With `raw` they may be any field of the request, and max_tokens gets no default.

    Raises JobError for a parameter that would have no effect.
    """
    fields: dict[str, Any] = {}
    if not raw and "max_completion_tokens" not in parameters:
        fields["max_tokens"] = DEFAULT_MAX_TOKENS
    known = OPTIONS | OWN_NAMES | NO_EFFECT[path].keys() if raw else NATIVE_OPTIONS
    for name, value in parameters.items():
        if name in UNUSED:
            continue
        nothing = value in NOTHING or (value is False and name in (*OFF_BY_DEFAULT, "stream"))
        if name in NATIVE or (name in OPTIONS and name not in known):
            if not nothing:
                raise JobError(_misplaced(name))
        elif name not in known:
            raise JobError(f"sampling_params has no {shorten(name)}.{suggest(name, known)}")
        else:
            if nothing and name in (*RENAMED, *RENAMED.values()):
                continue
            if not nothing:
                _check_path(name, path)
            if name in RENAMED:
                _check_renamed(name, parameters)
            fields[RENAMED.get(name, name)] = value
    best_of = parameters.get("best_of")
    if best_of not in (None, 1, parameters.get("n", 1)):
        raise JobError(f"sampling_params: best_of={best_of} is not possible: vLLM has removed it.")
    return fields


def _check_renamed(name: str, parameters: Mapping[str, Any]) -> None:
    """Raise JobError for an old name if the new name is set too, or if the value has a part that vLLM has removed."""
    if parameters.get(RENAMED[name]) not in NOTHING:
        raise JobError(f"sampling_params: send {name} or {RENAMED[name]}, not both.")
    value = parameters[name]
    for part in REMOVED_PARTS:
        if isinstance(value, dict) and value.get(part):
            raise JobError(
                f"sampling_params.{name}.{part} cannot be set: it is the server's (STRUCTURED_OUTPUTS_CONFIG)."
            )


def _misplaced(name: str) -> str:
    if name in NATIVE:
        return f"sampling_params.{name} has no effect here: it belongs in input.{name}."
    return f"sampling_params.{name} has no effect: this output has no place for it. Use openai_input."


def _check_path(name: str, path: str) -> None:
    if path == COMPLETIONS and name in CHAT_ONLY:
        raise JobError(f"sampling_params.{name} needs messages, or apply_chat_template with the prompt.")
    if path == CHAT and name in COMPLETION_ONLY:
        raise JobError(f"sampling_params.{name} needs a prompt without apply_chat_template.")
