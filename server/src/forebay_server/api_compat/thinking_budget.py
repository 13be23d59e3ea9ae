"""Removes the budget of thinking tokens from requests of the Messages API if vLLM cannot enforce it. Pure.

Claude Code and Anthropic's examples send a budget for every model.
"""

from typing import Any

NAME = "thinking.budget_tokens"


def drop_unenforceable_budget(request: Any, engine: Any) -> tuple[str, ...]:
    """Remove the budget from a request, in place, if vLLM 0.32 would reject the request because of it.

    vLLM counts the tokens between the marks of a reasoning parser, so it needs such a parser.

    Returns the names of the fields that have no effect then.

    Args:
        request: as vLLM parsed it.
        engine: vLLM's VllmConfig.
    """
    thinking = vars(request).get("thinking")
    if getattr(thinking, "type", None) != "enabled":
        return ()
    reasoning = getattr(engine, "reasoning_config", None)
    if getattr(reasoning, "enabled", False):
        return ()
    request.thinking = None
    return (NAME,)
