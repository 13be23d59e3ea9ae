"""A budget of thinking tokens in the Messages API, for models that vLLM cannot count it for. Pure.

Claude Code and Anthropic's examples send one whatever the model is.
"""

from typing import Any

NAME = "thinking.budget_tokens"


def drop_unenforceable_budget(request: Any, engine: Any) -> tuple[str, ...]:
    """Take the budget out of a request, in place, where vLLM 0.32 would refuse the request for it.

    vLLM counts the tokens between the marks of a reasoning parser, so it needs one.

    Returns the names of the fields that have no effect therefore.

    Args:
        request: as vLLM parsed it.
        engine: vLLM's VllmConfig.
    """
    reasoning = getattr(engine, "reasoning_config", None)
    if getattr(reasoning, "enabled", False):
        return ()
    if getattr(getattr(request, "thinking", None), "type", None) != "enabled":
        return ()
    request.thinking = None
    return (NAME,)
