"""Converts fields that clients send under other names than vLLM's, or rejects them by name.

The authentication middleware calls it for every body, the job runner for the request of a job. Pure.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from forebay_server.api_compat.incompatible import Incompatible
from forebay_server.api_compat.legacy_functions import adapt_functions
from forebay_server.api_compat.output_formats import (
    adapt_output_format,
    adapt_response_format,
    adapt_text_format,
    set_output_format,
)
from forebay_server.api_compat.paths import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from forebay_server.api_compat.unsupported_fields import find_citations, refuse_audio, refuse_conversation
from forebay_server.api_compat.vendor_history import (
    ANSWERED_CALLS,
    DOCUMENTS,
    FINISHED_CALLS,
    REMOVED_ITEMS,
    RESULT,
    SERVER_CALLS,
    adapt_anthropic_history,
    adapt_openai_history,
)
from forebay_server.api_compat.vendor_tools import (
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

GUIDED = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "guided_json_object": "json_object",
    "guided_whitespace_pattern": "whitespace_pattern",
}
"""Field of vLLM before 0.12 -> the part of structured_outputs that has replaced it."""

_OPTIONS = frozenset({"guided_whitespace_pattern"})
"""The fields in GUIDED that constrain an answer only together with another field."""

RENDER = "/render"
"""Suffix of the paths that answer with the request as the engine gets it. These paths take the same fields."""

_BACKEND = "guided_decoding_backend"
_SERVERS_CHOICE = (None, "", "auto")
"""Values of guided_decoding_backend that leave the choice to the server."""


@dataclass(frozen=True)
class AdaptedBody:
    """A request's body for vLLM.

    Attributes:
        content: the body.
        omitted: names of the tools that were removed from it.
        ignored: names of its fields that have no effect.
    """

    content: bytes
    omitted: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def adapt_body(path: str, body: bytes) -> AdaptedBody:
    """Convert a request's body for vLLM. `path` is as vLLM knows it. vLLM itself rejects a body that is no JSON object.

    Raises:
        Incompatible: the request asks for something that this server cannot do.
    """
    marker = _MARKERS.get(path.removesuffix(RENDER))
    if marker is None or not marker.search(body):
        return AdaptedBody(body)
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return AdaptedBody(body)
    if not isinstance(fields, dict):
        return AdaptedBody(body)
    with _nesting_refused():
        adapted, omitted = _adapt(path, fields)
        if adapted == fields:
            return AdaptedBody(body)
        content = json.dumps(adapted).encode()
    return AdaptedBody(content, omitted, find_citations(path, fields))


def adapt_fields(path: str, fields: Mapping[str, Any]) -> Fields:
    """Convert the fields of a request for vLLM.

    Raises:
        Incompatible: the request asks for something that this server cannot do.
    """
    with _nesting_refused():
        return _adapt(path, fields)[0]


@contextmanager
def _nesting_refused() -> Iterator[None]:
    """Raise Incompatible for fields that are nested too deeply for the adapters."""
    try:
        yield
    except RecursionError:
        raise Incompatible("The request's body is nested too deeply.") from None


def _adapt(path: str, fields: Mapping[str, Any]) -> Adapted:
    path = path.removesuffix(RENDER)
    adapted = dict(fields)
    for adapt in _ADAPTERS.get(path, ()):
        adapted = adapt(adapted)
    adapt_tools = _TOOL_ADAPTERS.get(path)
    return adapt_tools(adapted) if adapt_tools else (adapted, ())


def adapt_guided(fields: Fields) -> Fields:
    """Convert guided_json and similar fields to structured_outputs."""
    guided = {name: value for name in GUIDED if not _is_unset(value := fields.get(name))}
    rest = _without_guided(fields)
    if fields.get(_BACKEND) not in _SERVERS_CHOICE:
        raise Incompatible(
            f"{_BACKEND} cannot be set for a request: vLLM chooses the backend. Set STRUCTURED_OUTPUTS_CONFIG in "
            "spec.env for the whole server.",
            _BACKEND,
        )
    if not guided:
        return rest
    constraints = [name for name in guided if name not in _OPTIONS]
    if rest.get("structured_outputs") is not None:
        raise Incompatible(f"Send {next(iter(guided))} or structured_outputs, not both.", "structured_outputs")
    if not constraints:
        raise Incompatible(f"{next(iter(guided))} has an effect only with guided_json.", next(iter(guided)))
    if len(constraints) > 1:
        raise Incompatible(f"Send one of {' and '.join(constraints)}, not both.", constraints[1])
    return {**rest, "structured_outputs": {GUIDED[name]: value for name, value in guided.items()}}


def _without_guided(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if name not in GUIDED and name != _BACKEND}


def _is_unset(constraint: Any) -> bool:
    return constraint is None or constraint is False or constraint == ""


def adapt_format(fields: Fields) -> Fields:
    """Convert response_format to OpenAI's form. Reject another constraint in addition to it."""
    return adapt_response_format(fields, (*GUIDED, "structured_outputs"))


def adapt_text(fields: Fields) -> Fields:
    """Convert `text` of the Responses API. Reject another constraint in addition to its format."""
    return adapt_text_format(fields, (*GUIDED, "structured_outputs"))


def adapt_greedy(fields: Fields) -> Fields:
    """Convert temperature 0 with several choices, and top_p 0, to top_k 1. OpenAI accepts both, vLLM neither."""
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
    """Remove an empty suffix, which vLLM rejects for most models."""
    return {name: value for name, value in fields.items() if name != "suffix" or value not in ("", None)}


def adapt_guided_messages(fields: Fields) -> Fields:
    """Convert guided_json to the output format of the Messages API, which has no other constraint."""
    rest = _without_guided(fields)
    for name in (*GUIDED, _BACKEND):
        unset = fields.get(name) in _SERVERS_CHOICE if name == _BACKEND else _is_unset(fields.get(name))
        if name != "guided_json" and not unset:
            raise Incompatible(f"The Messages API does not support {name}. Use {CHAT} with structured_outputs.", name)
    schema = fields.get("guided_json")
    if _is_unset(schema):
        return rest
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError):
            raise Incompatible("guided_json is not JSON.", "guided_json") from None
    return set_output_format(rest, {"type": "json_schema", "schema": schema}, "guided_json", "output_config")


Adapt = Callable[[Fields], Fields]

_ADAPTERS: Mapping[str, Collection[Adapt]] = {
    CHAT: (adapt_format, adapt_guided, adapt_greedy, adapt_functions, refuse_audio),
    f"{CHAT}/batch": (adapt_format, adapt_guided, adapt_greedy),
    COMPLETIONS: (adapt_format, adapt_guided, adapt_greedy, adapt_suffix),
    RESPONSES: (adapt_text, adapt_guided, adapt_greedy, adapt_openai_history, refuse_conversation),
    MESSAGES: (adapt_output_format, adapt_guided_messages, adapt_greedy, adapt_anthropic_history),
    f"{MESSAGES}/count_tokens": (adapt_anthropic_history,),
}

_TOOL_ADAPTERS: Mapping[str, Callable[[Fields], Adapted]] = {
    RESPONSES: adapt_openai_tools,
    **dict.fromkeys((MESSAGES, f"{MESSAGES}/count_tokens"), adapt_anthropic_tools),
}
"""These run last, because the conversion of a history may add tools."""

_TOP_P_0 = r'top_p"\s*:\s*0(?:\.0*)?\s*[,}]'
_FOR_OPENAI = re.compile(rb'"(?:guided_|response_format"|suffix"|n"\s*:\s*(?:[2-9]|1\d)|%s)' % _TOP_P_0.encode())
_OF_ANTHROPIC = (
    "guided_",
    _TOP_P_0,
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
    *REMOVED_ITEMS,
    *TOOL_ITEMS,
)
_FOR_RESPONSES = re.compile(b'%s|"(?:%s)' % (_FOR_OPENAI.pattern, "|".join(_OF_OPENAI).encode()))

_MARKERS: Mapping[str, re.Pattern[bytes]] = {
    CHAT: _FOR_CHAT,
    **dict.fromkeys((f"{CHAT}/batch", COMPLETIONS), _FOR_OPENAI),
    RESPONSES: _FOR_RESPONSES,
    **dict.fromkeys((MESSAGES, f"{MESSAGES}/count_tokens"), _FOR_ANTHROPIC),
}
"""Path -> a pattern in every body that an adapter may change. A body without a match is not parsed."""
