"""max_tokens as an upper bound: agents send one that is larger than the context of the model."""

from typing import Any

FIELDS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""What the APIs call it."""

STRICT = "forebay_strict_max_tokens"
"""In the app's state: whether vLLM's own rule counts, which refuses such a request."""


def clamp_max_tokens(request: Any, context: int) -> None:
    """Lower the request's bound to the context (tokens). vLLM leaves out of it what the prompt takes."""
    for name in FIELDS:
        value = getattr(request, name, None)
        if isinstance(value, int) and value > context:
            setattr(request, name, context)
