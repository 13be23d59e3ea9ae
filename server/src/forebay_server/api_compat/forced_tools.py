"""Tool calls that the client forces. Uses only the fields that requests of all three APIs have."""

from typing import Any

FORCED = frozenset({"any", "function", "required", "tool"})
"""Values of tool_choice, or of its type, that force a call in OpenAI's and Anthropic's APIs."""


def bind_arguments(request: Any) -> None:
    """Set `strict` on the tools of a request that forces a call, in place. A tool that sets `strict` itself keeps its
    value.

    Without `strict`, vLLM 0.32 and later do not constrain the arguments to the tool's schema. A model may then write a
    string if the schema wants an object.
    """
    choice = getattr(request, "tool_choice", None)
    if getattr(choice, "type", choice) not in FORCED:
        return
    for tool in request.tools or ():
        declared = getattr(tool, "function", tool)
        if getattr(declared, "strict", False) is None:
            declared.strict = True
