"""Tools of Anthropic and OpenAI that have a type in place of a schema: dropped, given a schema, or refused. Pure."""

from collections.abc import Mapping
from typing import Any

from forebay_server.compat.incompatible import Incompatible

Fields = dict[str, Any]

SERVER_TOOLS = (
    "code_execution_",
    "mcp_toolset",
    "tool_search_",
    "web_fetch_",
    "web_search_",
)
"""How the types of Anthropic's tools begin that its own servers run. The model is not told of them here."""

CLIENT_TOOLS = {
    "bash_": {
        "description": "Run a command in a shell that stays open between calls.",
        "input_schema": {
            "type": "object",
            "properties": {
                "command": {"type": "string", "description": "The command to run."},
                "restart": {"type": "boolean", "description": "Start the shell again."},
            },
        },
    },
    "text_editor_": {
        "description": "View, create and edit text files.",
        "input_schema": {
            "type": "object",
            "properties": {
                "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert"]},
                "path": {"type": "string", "description": "The absolute path of a file or folder."},
                "file_text": {"type": "string", "description": "For create: the text of the file."},
                "old_str": {"type": "string", "description": "For str_replace: the text to replace."},
                "new_str": {"type": "string", "description": "For str_replace: what takes its place."},
                "insert_line": {"type": "integer", "description": "For insert: the line after which to insert."},
                "insert_text": {"type": "string", "description": "For insert: the text to insert."},
                "view_range": {"type": "array", "items": {"type": "integer"}, "description": "For view: two lines."},
            },
            "required": ["command", "path"],
        },
    },
    "memory_": {
        "description": "Store and read notes in files under /memories.",
        "input_schema": {
            "type": "object",
            "properties": {
                "command": {
                    "type": "string",
                    "enum": ["view", "create", "str_replace", "insert", "delete", "rename"],
                },
                "path": {"type": "string", "description": "A path under /memories."},
                "file_text": {"type": "string"},
                "old_str": {"type": "string"},
                "new_str": {"type": "string"},
                "insert_line": {"type": "integer"},
                "insert_text": {"type": "string"},
                "old_path": {"type": "string"},
                "new_path": {"type": "string"},
            },
            "required": ["command"],
        },
    },
}
"""How the types of Anthropic's tools begin that a client runs -> what its own models know of them.

Source: https://docs.claude.com/en/docs/agents-and-tools/tool-use
"""

FOREIGN_TOOLS = (
    "apply_patch",
    "computer",
    "file_search",
    "image_generation",
    "local_shell",
    "programmatic_tool_calling",
    "shell",
    "tool_search",
    "web_search",
)
"""How the types of the Responses API's tools begin that OpenAI's servers run, or that only its own models know: vLLM
leaves them out and says nothing."""

TOOL_SERVER_TOOLS = ("code_interpreter", "container", "mcp", "web_search_preview")
"""Those that vLLM itself runs where TOOL_SERVER is set; they are left to it."""


def adapt_anthropic_tools(fields: Fields) -> Fields:
    """Tools of the Messages API that have a type of Anthropic's in place of a schema; no tools where the list is empty.

    vLLM 0.32 takes an empty list for tools that the model may call, and refuses it where there is no parser for calls.
    """
    tools = fields.get("tools")
    choice = fields.get("tool_choice")
    if tools == [] and (choice is None or (isinstance(choice, dict) and choice.get("type") in ("auto", "none"))):
        return {name: value for name, value in fields.items() if name not in ("tools", "tool_choice")}
    if not isinstance(tools, list) or all(not isinstance(tool, dict) or "input_schema" in tool for tool in tools):
        return fields
    adapted, left_out = [], []
    for tool in tools:
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str) or "input_schema" in tool or kind in ("custom", "function"):
            adapted.append(tool)
        elif kind.startswith(SERVER_TOOLS):
            left_out.append(str(tool.get("name") or kind))
        elif known := next((CLIENT_TOOLS[each] for each in CLIENT_TOOLS if kind.startswith(each)), None):
            adapted.append({"name": tool.get("name"), **known})
        else:
            name = tool.get("name") or kind
            raise Incompatible(
                f"The tool {name} has the type {kind}, which only Anthropic's own models know. Describe it by "
                "input_schema.",
                "tools",
            )
    forced = isinstance(choice, dict) and choice.get("type") == "tool" and choice.get("name")
    if forced in left_out or (left_out and not adapted and isinstance(choice, dict) and choice.get("type") == "any"):
        name = forced or left_out[0]
        raise Incompatible(f"The tool {name} is one that Anthropic's servers run; there is none here.", "tool_choice")
    made = {**fields, "tools": adapted}
    if not adapted:
        del made["tools"]
        made.pop("tool_choice", None)
    return made


def adapt_openai_tools(fields: Fields) -> Fields:
    """Tools of the Responses API without those that nobody runs here, and without grammars, which vLLM refuses."""
    tools = fields.get("tools")
    if not isinstance(tools, list):
        return fields
    left_out = [str(tool.get("type")) for tool in tools if _is_foreign(tool)]
    adapted = [_describe_grammar(tool) for tool in tools if not _is_foreign(tool)]
    choice = fields.get("tool_choice")
    forced = choice.get("type") if isinstance(choice, dict) else None
    if forced in left_out or (left_out and not adapted and choice == "required"):
        raise Incompatible(f"There is no tool of the type {forced or left_out[0]} here.", "tool_choice")
    if left_out and isinstance(choice, dict) and forced == "allowed_tools":
        allowed = choice.get("tools")
        allowed = [tool for tool in allowed if not _is_foreign(tool)] if isinstance(allowed, list) else allowed
        fields = {**fields, "tool_choice": {**choice, "tools": allowed} if allowed else "none"}
    made = {**fields, "tools": adapted}
    if left_out and not adapted:
        del made["tools"]
        made.pop("tool_choice", None)
    return made


def _is_foreign(tool: Any) -> bool:
    kind = tool.get("type") if isinstance(tool, dict) else None
    return isinstance(kind, str) and kind.startswith(FOREIGN_TOOLS) and kind not in TOOL_SERVER_TOOLS


def _describe_grammar(tool: Any) -> Any:
    """A custom tool whose input has a grammar, with the grammar in its description: the model reads it there."""
    layout = tool.get("format") if isinstance(tool, dict) and tool.get("type") == "custom" else None
    if not isinstance(layout, dict) or layout.get("type") != "grammar":
        return tool
    rest = {name: value for name, value in tool.items() if name != "format"}
    rule = f"The input follows this grammar ({layout.get('syntax')}):\n{layout.get('definition')}"
    return {**rest, "description": f"{tool.get('description') or ''}\n{rule}".strip()}


def find_left_out(fields: Mapping[str, Any], adapted: Mapping[str, Any]) -> tuple[str, ...]:
    kept = set(_tool_names(adapted))
    return tuple(name for name in _tool_names(fields) if name not in kept)


def _tool_names(fields: Mapping[str, Any]) -> list[str]:
    tools = fields.get("tools")
    found = tools if isinstance(tools, list) else []
    names = (tool.get("name") or tool.get("type") for tool in found if isinstance(tool, dict))
    return [name for name in names if isinstance(name, str)]
