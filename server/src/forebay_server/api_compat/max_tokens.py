"""Lowers max_tokens to the model's context, because agents send larger values.

The route overrides call it for each request with a token limit.
"""

from typing import Any

FIELDS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""The names of the limit in the APIs."""

STRICT = "forebay_strict_max_tokens"
"""Name in the app's state: whether vLLM's own rule applies. vLLM rejects a `max_tokens` that is too large."""


def clamp_max_tokens(request: Any, context: int) -> None:
    """Lower the request's limit to `context` (tokens). vLLM then subtracts the prompt's tokens from it."""
    values = vars(request)  # getattr of a field that a model lacks takes a microsecond or two
    for name in FIELDS:
        value = values.get(name)
        if isinstance(value, int) and value > context:
            setattr(request, name, context)
