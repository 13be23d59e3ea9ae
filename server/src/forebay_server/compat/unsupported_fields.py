"""Fields of OpenAI's and Anthropic's requests that have no effect here: named in a header, or refused. Pure.

A field is refused where a client would take the answer for something else than it is. One that changes nothing in the
answer, and one that is not known, is named in the header: clients that send it to everybody go on working.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from itertools import chain, islice
from typing import Any

from forebay_protocol.spelling import find_nearest
from forebay_server.compat.incompatible import Incompatible
from forebay_server.compat.legacy_functions import MARKER
from forebay_server.compat.paths import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES
from forebay_server.compat.vendor_tools import list_of

Fields = dict[str, Any]

MAX_NAMED = 16
"""Fields that the header names."""

MAX_NAME = 64
"""Characters of a name in the header, and of one that is compared with known ones."""

_ACCOUNT = {
    "metadata": "nothing is stored",
    "safety_identifier": "requests are not monitored for abuse",
    "service_tier": "all requests are served alike",
    "store": "answers are not stored",
    "user": "it is not recorded",
}

_CACHE = {
    "prompt_cache_key": "prompts are cached by their content",
    "prompt_cache_options": "prompts are cached by their content",
    "prompt_cache_retention": "prompts are cached as long as there is room",
}

CITATIONS = "messages.citations"
_PADDING = "stream_options.include_obfuscation"
_LOGPROBS = "message.output_text.logprobs"

NO_EFFECT: Mapping[str, Mapping[str, str]] = {
    CHAT: {
        **_ACCOUNT,
        **_CACHE,
        "audio": "answers are text",
        "moderation": "answers are not moderated",
        "prediction": "it affects only the speed",
        _PADDING: "events are not padded",
        "verbosity": "say in the prompt how long the answer should be",
        "web_search_options": "the model does not search",
    },
    COMPLETIONS: {
        **_ACCOUNT,
        **_CACHE,
        "best_of": "each of the n answers is returned",
        _PADDING: "events are not padded",
    },
    RESPONSES: {
        **{name: why for name, why in _ACCOUNT.items() if name != "metadata"},
        **_CACHE,
        "access_programs": "there are none",
        "background_options": "background has none",
        "context_management": "the conversation is used as it is sent",
        "image": "answers are text",
        "max_tool_calls": "the client runs the tools",
        "moderation": "answers are not moderated",
        "reasoning.context": "the conversation is used as it is sent",
        "reasoning.generate_summary": "reasoning is returned in full",
        "reasoning.mode": "the model gets reasoning.effort alone",
        "reasoning.summary": "reasoning is returned in full",
        "store": "answers are stored only where VLLM_ENABLE_RESPONSES_API_STORE=1 is in spec.env",
        "stream_options": "events are not padded",
        "text.verbosity": "say in the prompt how long the answer should be",
        "top_logprobs": f"include has to name {_LOGPROBS} too",
    },
    EMBEDDINGS: {"user": "it is not recorded"},
    MESSAGES: {
        "cache_control": "prompts are cached by their content",
        "container": "the server runs no code for the model",
        "context_management": "the conversation is used as it is sent",
        "inference_geo": "the location of the server is fixed",
        "mcp_servers": "the server calls no MCP servers, so the model does not see their tools",
        CITATIONS: "answers have no citations; those of a document or search_result are dropped",
        "metadata": "nothing is stored",
        "output_config.task_budget": "the model does not see it",
        "service_tier": "all requests are served alike",
        "speed": "all requests are served alike",
        "thinking.display": "reasoning is returned in full",
    },
}
"""Path -> field of the vendor's API that the server takes and ignores -> why it does no harm, or what to do.

A part of a field has the field's name before a dot. metadata of the Responses API comes back in the answer.

Source: the parameters of openai-python 3.57 and of Anthropic's Messages API, compared with the models of vLLM 0.32.
"""

_DEFAULTS = {
    "service_tier": ("auto", "default", "standard_only"),
    "speed": ("standard",),
    "thinking.display": ("summarized",),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "text.verbosity": ("medium",),
    "reasoning.context": ("auto",),
    "reasoning.mode": ("standard",),
    "best_of": (1,),
}
"""Values that ask for nothing else than what happens."""


def find_ignored(path: str, body: Any, others: Mapping[str, Any], *, stores: bool = False) -> tuple[str, ...]:
    """The fields of a request that have no effect, at most MAX_NAMED, each as an item for the header.

    Args:
        path: as vLLM knows it.
        body: the request as vLLM parsed it, a pydantic.BaseModel.
        others: what was sent besides the fields that it has.
        stores: whether answers of the Responses API are stored.
    """
    model: Any = type(body)
    fields = model.model_fields
    sent = {**others, **{name: getattr(body, name) for name in body.model_fields_set if name in fields}}
    if path == RESPONSES:
        for name in _effective(sent, stores):
            sent.pop(name, None)
    no_effect = NO_EFFECT.get(path, {})
    names = chain(_ignored(no_effect, sent, _names_of(model)), _ignored_parts(no_effect, {**sent, **others}))
    return tuple(islice(names, MAX_NAMED))


def _effective(sent: Mapping[str, Any], stores: bool) -> Iterator[str]:
    """The fields of a request to the Responses API that have an effect for once."""
    if stores:
        yield "store"
    if _LOGPROBS in (sent.get("include") or ()):
        yield "top_logprobs"


@cache
def _names_of(model: Any) -> frozenset[str]:
    """The names that a model's fields have in a body."""
    return frozenset(each for name, field in model.model_fields.items() for each in (name, field.alias) if each)


def _ignored(no_effect: Mapping[str, str], sent: Mapping[str, Any], known: Collection[str]) -> Iterator[str]:
    for name, value in sent.items():
        if name in no_effect:
            if not _asks_for_nothing(name, value):
                yield name
        elif name not in known and value is not None and name != MARKER:
            nearest = find_nearest(name, known) if len(name) <= MAX_NAME else ""
            yield f"{name[:MAX_NAME]};suggestion={nearest}" if nearest else name[:MAX_NAME]


def _ignored_parts(no_effect: Mapping[str, str], sent: Mapping[str, Any]) -> Iterator[str]:
    for name in no_effect:
        field, dot, part = name.partition(".")
        if dot and field in sent:
            value = sent[field]
            value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
            if not _asks_for_nothing(name, value):
                yield name


def _asks_for_nothing(name: str, value: Any) -> bool:
    if name == "web_search_options":
        return value is None
    return value is None or value is False or value in ("", [], {}) or value in _DEFAULTS.get(name, ())


def find_citations(path: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The name for the header where a document in a request's messages, as the client sent them, asks to be cited."""
    if path != MESSAGES:
        return ()
    blocks = [block for message in _dicts(fields, "messages") for block in _dicts(message, "content")]
    within = [part for block in blocks if block.get("type") == "tool_result" for part in _dicts(block, "content")]
    return (CITATIONS,) if any(_asks_to_be_cited(part) for part in (*blocks, *within)) else ()


def _dicts(holder: Mapping[str, Any], name: str) -> list[Fields]:
    return [each for each in list_of(holder, name) if isinstance(each, dict)]


def _asks_to_be_cited(block: Fields) -> bool:
    citations = block.get("citations")
    return (
        block.get("type") in ("document", "search_result")
        and isinstance(citations, dict)
        and bool(citations.get("enabled"))
    )


def refuse_audio(fields: Fields) -> Fields:
    """Chat completions that want text, which is all that vLLM answers with."""
    modalities = fields.get("modalities")
    asked = modalities if isinstance(modalities, list) else [modalities]
    if modalities is not None and any(each != "text" for each in asked):
        raise Incompatible('Answers are text only: send modalities as ["text"], or not at all.', "modalities")
    return {name: value for name, value in fields.items() if name != "modalities" or modalities is None}


def refuse_conversation(fields: Fields) -> Fields:
    """Responses that bring their conversation."""
    if fields.get("conversation") is not None:
        raise Incompatible("Conversations are not stored here. Send the whole conversation as input.", "conversation")
    return fields
