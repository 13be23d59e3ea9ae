"""Fields of OpenAI's and Anthropic's requests that have no effect here: named in a header, or rejected. Pure.

A field is rejected if the client would misread the answer. Other fields without effect, and unknown fields, are
named in the header. So clients that send such fields to every server still work.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from itertools import chain, islice
from typing import Any

from forebay_protocol.spelling import find_nearest
from forebay_server.api_compat.incompatible import Incompatible
from forebay_server.api_compat.legacy_functions import MARKER
from forebay_server.api_compat.paths import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES
from forebay_server.api_compat.vendor_tools import list_of

Fields = dict[str, Any]

MAX_NAMED = 16
"""The most fields that the header names."""

MAX_NAME = 64
"""The most characters of a name in the header, and of a name that is compared with known names."""

_ACCOUNT = {
    "metadata": "metadata is not stored",
    "safety_identifier": "there is no abuse monitoring",
    "service_tier": "all requests are served in the same way",
    "store": "answers are not stored",
    "user": "the user is not recorded",
}

_CACHE = {
    "prompt_cache_key": "prompts are cached by their content",
    "prompt_cache_options": "prompts are cached by their content",
    "prompt_cache_retention": "prompts stay in the cache while there is room",
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
        "verbosity": "ask for the length in the prompt",
        "web_search_options": "the model does not search the web",
    },
    COMPLETIONS: {
        **_ACCOUNT,
        **_CACHE,
        "best_of": "all n answers are returned",
        _PADDING: "events are not padded",
    },
    RESPONSES: {
        **{name: why for name, why in _ACCOUNT.items() if name != "metadata"},
        **_CACHE,
        "access_programs": "there are no access programs",
        "background_options": "background has no options",
        "context_management": "the whole conversation is used as sent",
        "image": "answers are text",
        "max_tool_calls": "the client runs the tools",
        "moderation": "answers are not moderated",
        "reasoning.context": "the whole conversation is used as sent",
        "reasoning.generate_summary": "reasoning is returned in full",
        "reasoning.mode": "the model gets only reasoning.effort",
        "reasoning.summary": "reasoning is returned in full",
        "store": "answers are stored only if spec.env has VLLM_ENABLE_RESPONSES_API_STORE=1",
        "stream_options": "events are not padded",
        "text.verbosity": "ask for the length in the prompt",
        "top_logprobs": f"it works only if the field include contains {_LOGPROBS}",
    },
    EMBEDDINGS: {"user": "the user is not recorded"},
    MESSAGES: {
        "cache_control": "prompts are cached by their content",
        "container": "the server runs no code for the model",
        "context_management": "the whole conversation is used as sent",
        "inference_geo": "the model runs where the server is",
        "mcp_servers": "the server calls no MCP servers, so the model does not see their tools",
        CITATIONS: "answers have no citations; the field is removed from documents and search results",
        "metadata": "metadata is not stored",
        "output_config.task_budget": "the model does not see it",
        "service_tier": "all requests are served in the same way",
        "speed": "all requests are served in the same way",
        "thinking.display": "reasoning is returned in full",
    },
}
"""Path -> field of the vendor's API that the server takes and ignores -> why it does no harm, or what to do.

A name with a dot stands for a part of a field. The Responses API returns metadata in the answer.

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
"""Values that ask for the server's normal behaviour."""


def find_ignored(path: str, body: Any, others: Mapping[str, Any], *, stores: bool = False) -> tuple[str, ...]:
    """The fields of a request that have no effect, at most MAX_NAMED, each as an item for the header.

    Args:
        path: as vLLM knows it.
        body: the request as vLLM parsed it, a pydantic.BaseModel.
        others: further fields that the client sent.
        stores: whether answers of the Responses API are stored.
    """
    model: Any = type(body)
    values = vars(body)  # the fields of the model, without others
    sent = {**others, **{name: values[name] for name in body.model_fields_set if name in values}}
    if path == RESPONSES:
        for name in _effective(sent, stores):
            sent.pop(name, None)
    no_effect = NO_EFFECT.get(path, {})
    names = chain(_ignored(no_effect, sent, _names_of(model)), _ignored_parts(path, {**sent, **others}))
    return tuple(islice(names, MAX_NAMED))


def _effective(sent: Mapping[str, Any], stores: bool) -> Iterator[str]:
    """The fields of NO_EFFECT that have an effect in this request to the Responses API."""
    if stores:
        yield "store"
    if _LOGPROBS in (sent.get("include") or ()):
        yield "top_logprobs"


@cache
def _names_of(model: Any) -> frozenset[str]:
    """The names that a model's fields have in a body."""
    return frozenset(key for name, field in model.model_fields.items() for key in (name, field.alias) if key)


def _ignored(no_effect: Mapping[str, str], sent: Mapping[str, Any], known: Collection[str]) -> Iterator[str]:
    for name, value in sent.items():
        if name in no_effect:
            if not _asks_for_nothing(name, value):
                yield name
        elif name not in known and value is not None and name != MARKER:
            nearest = find_nearest(name, known) if len(name) <= MAX_NAME else ""
            yield f"{name[:MAX_NAME]};suggestion={nearest}" if nearest else name[:MAX_NAME]


@cache
def _parts_without_effect(path: str) -> tuple[tuple[str, str, str], ...]:
    """The names with a dot in NO_EFFECT, each with its field and its part."""
    split = ((name, *name.partition(".")) for name in NO_EFFECT.get(path, ()))
    return tuple((name, field, part) for name, field, dot, part in split if dot)


def _ignored_parts(path: str, sent: Mapping[str, Any]) -> Iterator[str]:
    for name, field, part in _parts_without_effect(path):
        if field in sent:
            value = sent[field]
            value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
            if not _asks_for_nothing(name, value):
                yield name


def _asks_for_nothing(name: str, value: Any) -> bool:
    if name == "web_search_options":
        return value is None
    return value is None or value is False or value in ("", [], {}) or value in _DEFAULTS.get(name, ())


def find_citations(path: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns CITATIONS if a document in a request's messages, as the client sent them, asks to be cited."""
    if path != MESSAGES:
        return ()
    blocks = [block for message in _dicts(fields, "messages") for block in _dicts(message, "content")]
    nested = [part for block in blocks if block.get("type") == "tool_result" for part in _dicts(block, "content")]
    return (CITATIONS,) if any(_asks_to_be_cited(part) for part in (*blocks, *nested)) else ()


def _dicts(holder: Mapping[str, Any], name: str) -> list[Fields]:
    return [item for item in list_of(holder, name) if isinstance(item, dict)]


def _asks_to_be_cited(block: Fields) -> bool:
    citations = block.get("citations")
    return (
        block.get("type") in ("document", "search_result")
        and isinstance(citations, dict)
        and bool(citations.get("enabled"))
    )


def refuse_audio(fields: Fields) -> Fields:
    """Reject modalities other than text, as vLLM answers with text only. Remove the field otherwise."""
    modalities = fields.get("modalities")
    requested = modalities if isinstance(modalities, list) else [modalities]
    if modalities is not None and any(modality != "text" for modality in requested):
        raise Incompatible('Answers are text only: send modalities as ["text"], or not at all.', "modalities")
    return {name: value for name, value in fields.items() if name != "modalities" or modalities is None}


def refuse_conversation(fields: Fields) -> Fields:
    """Reject a reference to a stored conversation, as conversations are not stored here."""
    if fields.get("conversation") is not None:
        raise Incompatible("Conversations are not stored here. Send the whole conversation as input.", "conversation")
    return fields
