"""What clients send by other names than vLLM's, put as vLLM takes it, or refused by name.

The gate asks for every body, and the job runner for what a job's input stands for. Pure.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from forebay_server.compat.incompatible import Incompatible
from forebay_server.compat.legacy_functions import adapt_functions
from forebay_server.compat.output_formats import adapt_output_format, adapt_response_format, adapt_text_format
from forebay_server.compat.paths import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from forebay_server.compat.unsupported_fields import find_citations, refuse_audio, refuse_conversation
from forebay_server.compat.vendor_history import (
    ANSWERED_CALLS,
    DOCUMENTS,
    FINISHED_CALLS,
    RESULT,
    SERVER_CALLS,
    SPENT_ITEMS,
    adapt_anthropic_history,
    adapt_openai_history,
)
from forebay_server.compat.vendor_tools import (
    CLIENT_TOOLS,
    FOREIGN_TOOLS,
    SERVER_TOOLS,
    TOOL_ITEMS,
    TOOL_SERVER_TOOLS,
    Adapted,
    Fields,
    adapt_anthropic_tools,
    adapt_openai_tools,
)

__all__ = ["CHAT", "COMPLETIONS", "GUIDED", "MESSAGES", "RESPONSES", "AdaptedBody", "adapt_body", "adapt_fields"]

GUIDED = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "guided_json_object": "json_object",
    "guided_whitespace_pattern": "whitespace_pattern",
}
"""Fields of vLLM before 0.12 -> the part of structured_outputs that has taken their place."""

_OPTIONS = frozenset({"guided_whitespace_pattern"})
"""Those that are no constraint by themselves."""

RENDER = "/render"
"""How the paths end whose answer is a request as the engine gets it. They take the same fields."""

_BACKEND = "guided_decoding_backend"
_SERVERS_CHOICE = (None, "", "auto")
"""Values of it that leave the backend to the server."""


@dataclass(frozen=True)
class AdaptedBody:
    """A request's body for vLLM, the names of the tools that it does without, and of fields without effect."""

    content: bytes
    left_out: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def adapt_body(path: str, body: bytes) -> AdaptedBody:
    """A request's body for vLLM. `path` is as vLLM knows it. A body that is no JSON object is vLLM's to refuse.

    Raises:
        Incompatible: it asks for something that cannot be done here.
    """
    marker = _MARKERS.get(path.removesuffix(RENDER))
    if marker is None or not marker.search(body):
        return AdaptedBody(body)
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return AdaptedBody(body)
    try:
        if not isinstance(fields, dict):
            return AdaptedBody(body)
        adapted, left_out = _adapt(path, fields)
        if adapted == fields:
            return AdaptedBody(body)
        content = json.dumps(adapted).encode()
    except RecursionError:
        raise Incompatible("The request's body is nested too deeply.") from None
    return AdaptedBody(content, left_out, find_citations(path, fields))


def adapt_fields(path: str, fields: Mapping[str, Any]) -> Fields:
    """The fields of a request as vLLM takes them.

    Raises:
        Incompatible: they ask for something that cannot be done here.
    """
    return _adapt(path, fields)[0]


def _adapt(path: str, fields: Mapping[str, Any]) -> Adapted:
    path = path.removesuffix(RENDER)
    adapted = dict(fields)
    for adapt in _ADAPTERS.get(path, ()):
        adapted = adapt(adapted)
    adapt_tools = _TOOL_ADAPTERS.get(path)
    return adapt_tools(adapted) if adapt_tools else (adapted, ())


def adapt_guided(fields: Fields) -> Fields:
    """guided_json and the like as structured_outputs."""
    given = {name: value for name in GUIDED if not _says_nothing(value := fields.get(name))}
    rest = _without_guided(fields)
    if fields.get(_BACKEND) not in _SERVERS_CHOICE:
        raise Incompatible(
            f"{_BACKEND} cannot be set for a request: vLLM chooses the backend. Set STRUCTURED_OUTPUTS_CONFIG in "
            "spec.env for the whole server.",
            _BACKEND,
        )
    if not given:
        return rest
    constraints = [name for name in given if name not in _OPTIONS]
    if rest.get("structured_outputs") is not None:
        raise Incompatible(f"Send {next(iter(given))} or structured_outputs, not both.", "structured_outputs")
    if not constraints:
        raise Incompatible(f"{next(iter(given))} has an effect only with guided_json.", next(iter(given)))
    if len(constraints) > 1:
        raise Incompatible(f"Send one of {' and '.join(constraints)}, not both.", constraints[1])
    return {**rest, "structured_outputs": {GUIDED[name]: value for name, value in given.items()}}


def _without_guided(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if name not in GUIDED and name != _BACKEND}


def _says_nothing(constraint: Any) -> bool:
    return constraint is None or constraint is False or constraint == ""


def adapt_format(fields: Fields) -> Fields:
    """response_format as OpenAI has it, and no other constraint beside it."""
    return adapt_response_format(fields, (*GUIDED, "structured_outputs"))


def adapt_text(fields: Fields) -> Fields:
    """The `text` of the Responses API, with no other constraint beside its format."""
    return adapt_text_format(fields, (*GUIDED, "structured_outputs"))


def adapt_greedy(fields: Fields) -> Fields:
    """Several choices at temperature 0, and top_p 0, as the one most likely token: OpenAI takes both, vLLM neither."""
    adapted = dict(fields)
    if fields.get("use_beam_search"):
        return adapted
    if _is_zero(fields.get("top_p")):
        del adapted["top_p"]
        adapted["top_k"] = 1
    choices = fields.get("n")
    if isinstance(choices, int) and choices > 1 and _is_zero(fields.get("temperature")):
        adapted |= {"temperature": 1, "top_k": 1}
    return adapted


def _is_zero(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == 0


def adapt_suffix(fields: Fields) -> Fields:
    """Without a suffix that says nothing, which vLLM refuses for most models."""
    return {name: value for name, value in fields.items() if name != "suffix" or value not in ("", None)}


def adapt_guided_messages(fields: Fields) -> Fields:
    """guided_json as the output format of the Messages API, which has no other constraint."""
    rest = _without_guided(fields)
    for name in (*GUIDED, _BACKEND):
        says_nothing = fields.get(name) in _SERVERS_CHOICE if name == _BACKEND else _says_nothing(fields.get(name))
        if name != "guided_json" and not says_nothing:
            raise Incompatible(f"The Messages API does not support {name}. Use {CHAT} with structured_outputs.", name)
    schema = fields.get("guided_json")
    if _says_nothing(schema):
        return rest
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError):
            raise Incompatible("guided_json is not JSON.", "guided_json") from None
    config = rest.get("output_config") or {}
    if not isinstance(config, dict) or config.get("format") is not None:
        raise Incompatible("Send guided_json or output_config.format, not both.", "output_config")
    return {**rest, "output_config": {**config, "format": {"type": "json_schema", "schema": schema}}}


Adapt = Callable[[Fields], Fields]

_ADAPTERS: Mapping[str, Collection[Adapt]] = {
    CHAT: (adapt_format, adapt_guided, adapt_greedy, adapt_functions, refuse_audio),
    f"{CHAT}/batch": (adapt_format, adapt_guided, adapt_greedy),
    COMPLETIONS: (adapt_format, adapt_guided, adapt_greedy, adapt_suffix),
    RESPONSES: (adapt_text, adapt_guided, adapt_greedy, adapt_openai_history, refuse_conversation),
    MESSAGES: (adapt_output_format, adapt_guided_messages, adapt_anthropic_history),
    f"{MESSAGES}/count_tokens": (adapt_anthropic_history,),
}

_TOOL_ADAPTERS: Mapping[str, Callable[[Fields], Adapted]] = {
    RESPONSES: adapt_openai_tools,
    **dict.fromkeys((MESSAGES, f"{MESSAGES}/count_tokens"), adapt_anthropic_tools),
}
"""These come last, as tools are found in the history too."""

_FOR_OPENAI = re.compile(
    rb'"(?:guided_|response_format"|suffix"|n"\s*:\s*(?:[2-9]|1\d)|top_p"\s*:\s*0(?:\.0*)?\s*[,}])'
)
_OF_ANTHROPIC = (
    "guided_",
    'file"',
    'output_format"',
    r'tools"\s*:\s*\[\s*\]',
    "[a-z_]{1,40}" + RESULT + '"',
    r"[a-z_]{1,40}_20\d{6}\"",
    *SERVER_TOOLS,
    *CLIENT_TOOLS,
    *SERVER_CALLS,
    *DOCUMENTS,
)
_FOR_ANTHROPIC = re.compile(b'"(?:%s)' % "|".join(_OF_ANTHROPIC).encode())

_FOR_CHAT = re.compile(
    rb'%s|"(?:(?:functions|function_call|modalities)"\s*:|role"\s*:\s*"function")' % _FOR_OPENAI.pattern
)

_OF_OPENAI = (
    'grammar"',
    'structured_outputs"',
    'namespace"',
    'encrypted_content"',
    r'conversation"\s*:',
    *FOREIGN_TOOLS,
    *(f'{kind}"' for kind in TOOL_SERVER_TOOLS),
    *ANSWERED_CALLS,
    *FINISHED_CALLS,
    *SPENT_ITEMS,
    *TOOL_ITEMS,
)
_FOR_RESPONSES = re.compile(b'%s|"(?:%s)' % (_FOR_OPENAI.pattern, "|".join(_OF_OPENAI).encode()))

_MARKERS: Mapping[str, re.Pattern[bytes]] = {
    CHAT: _FOR_CHAT,
    **dict.fromkeys((f"{CHAT}/batch", COMPLETIONS), _FOR_OPENAI),
    RESPONSES: _FOR_RESPONSES,
    **dict.fromkeys((MESSAGES, f"{MESSAGES}/count_tokens"), _FOR_ANTHROPIC),
}
"""What is in every body that an adapter may change: a body without it is not read here."""
