"""Tool calls that the client forces. Pure: knows requests only by the fields that the three APIs share."""

from typing import Any

FORCED = frozenset({"any", "function", "required", "tool"})
"""How a request says that a tool must be called: the choice itself or its type, in OpenAI's and Anthropic's words."""


def bind_arguments(request: Any) -> None:
    """Hold the arguments of a forced call to the tool's schema, in place, where the tool does not say `strict` itself.

    vLLM 0.32 and later leave them free then, so that a model may write a text where an object is meant.
    """
    choice = getattr(request, "tool_choice", None)
    if getattr(choice, "type", choice) not in FORCED:
        return
    for tool in request.tools or ():
        declared = getattr(tool, "function", tool)
        if getattr(declared, "strict", False) is None:
            declared.strict = True
