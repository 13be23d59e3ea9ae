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


TOOL_ITEMS = ("additional_tools", "tool_search_output")
"""Items of the Responses API that bring tools in the middle of a conversation, as Codex sends them for some models."""


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
    adapted = [_describe_grammar(each) for tool in tools if not _is_foreign(tool) for each in _free_custom_tools(tool)]
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


def kind_of(part: Any) -> str:
    """The type of a tool, a block or an item; "" where it has none."""
    kind = part.get("type") if isinstance(part, dict) else None
    return kind if isinstance(kind, str) else ""


def _is_foreign(tool: Any) -> bool:
    kind = kind_of(tool)
    return kind.startswith(FOREIGN_TOOLS) and kind not in TOOL_SERVER_TOOLS


def _free_custom_tools(tool: Any) -> list[Any]:
    """A namespace without its custom tools, and these beside it: within, vLLM 0.32 does not tell the model of them.

    Codex takes a call of such a tool by its name alone.
    """
    within = list_of(tool, "tools") if kind_of(tool) == "namespace" else []
    custom = [each for each in within if kind_of(each) == "custom"]
    if not custom:
        return [tool]
    rest = [each for each in within if kind_of(each) != "custom"]
    return [*([{**tool, "tools": rest}] if rest else []), *custom]


def _describe_grammar(tool: Any) -> Any:
    """A custom tool whose input has a grammar, with the grammar in its description: the model reads it there."""
    layout = tool.get("format") if isinstance(tool, dict) and tool.get("type") == "custom" else None
    if not isinstance(layout, dict) or layout.get("type") != "grammar":
        return tool
    rest = {name: value for name, value in tool.items() if name != "format"}
    rule = f"The input follows this grammar ({layout.get('syntax')}):\n{layout.get('definition')}"
    return {**rest, "description": f"{tool.get('description') or ''}\n{rule}".strip()}


def find_left_out(fields: Mapping[str, Any], adapted: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the tools that a request had, wherever it had them, and has no more."""
    kept = set(_tool_names(adapted))
    return tuple(name for name in _tool_names(fields) if name not in kept)


def _tool_names(fields: Mapping[str, Any]) -> list[str]:
    bringing = [item for item in list_of(fields, "input") if kind_of(item) in TOOL_ITEMS]
    tools = [tool for each in (fields, *bringing) for tool in list_of(each, "tools")]
    within = [tool for each in tools if kind_of(each) == "namespace" for tool in list_of(each, "tools")]
    named = [tool for tool in (*tools, *within) if isinstance(tool, dict) and kind_of(tool) != "namespace"]
    names = (tool.get("name") or tool.get("type") for tool in named)
    return [name for name in names if isinstance(name, str)]


def list_of(part: Mapping[str, Any], name: str) -> list[Any]:
    """A field that should be a list; an empty one where it is none."""
    value = part.get(name)
    return value if isinstance(value, list) else []
