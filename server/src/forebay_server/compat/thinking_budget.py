"""A budget of thinking tokens in the Messages API, for models that vLLM cannot count it for. Pure.

Claude Code and Anthropic's examples send one whatever the model is.
"""

from typing import Any


def drop_unenforceable_budget(request: Any, engine: Any) -> None:
    """Take the budget out of a request, in place, where vLLM 0.32 would refuse the request for it.

    It counts the tokens between the marks of a reasoning parser, so it wants one.

    Args:
        request: as vLLM parsed it.
        engine: vLLM's VllmConfig.
    """
    reasoning = getattr(engine, "reasoning_config", None)
    if getattr(reasoning, "enabled", False):
        return
    if getattr(getattr(request, "thinking", None), "type", None) == "enabled":
        request.thinking = None
