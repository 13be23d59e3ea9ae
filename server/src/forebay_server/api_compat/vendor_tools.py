"""Removes, completes or rejects Anthropic's and OpenAI's tools that have a type instead of a schema. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from forebay_protocol.errors import shorten
from forebay_server.api_compat.incompatible import Incompatible

Fields = dict[str, Any]

SERVER_TOOLS = (
    "advisor_",
    "code_execution_",
    "mcp_toolset",
    "tool_search_",
    "web_fetch_",
    "web_search_",
)
"""Prefixes of the types of Anthropic's tools that its own servers run. The model does not see them here."""

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
"""Prefix of the types of Anthropic's tools that a client runs -> the description that Anthropic's models know.

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
"""Prefixes of the types of Responses API tools that OpenAI's servers run, or that only its models know. vLLM removes
them without an error."""

TOOL_SERVER_TOOLS = ("code_interpreter", "container", "mcp", "web_search_preview")
"""Tools that vLLM itself runs if TOOL_SERVER is set. They stay in the request."""

TOOL_ITEMS = ("additional_tools", "tool_search_output")
"""Items of the Responses API that add tools in the middle of a conversation. Codex sends them for some models."""

Adapted = tuple[Fields, tuple[str, ...]]
"""The fields of a request, and the names of the tools that were removed from them."""


def adapt_anthropic_tools(fields: Fields) -> Adapted:
    """Convert tools of the Messages API that have one of Anthropic's types instead of a schema. Remove an empty list.

    vLLM 0.32 treats an empty list as tools that the model may call, and rejects it if no tool parser is set.

    Raises:
        Incompatible: the request describes or forces a tool that cannot be used here.
    """
    tools = fields.get("tools")
    choice = fields.get("tool_choice")
    if tools == [] and (choice is None or kind_of(choice) in ("auto", "none")):
        return _without_tools(fields), ()
    if not isinstance(tools, list) or all(not isinstance(tool, dict) or "input_schema" in tool for tool in tools):
        return fields, ()
    adapted, omitted = [], []
    for tool in tools:
        kind = tool.get("type") if isinstance(tool, dict) else None
        if not isinstance(kind, str) or "input_schema" in tool or kind in ("custom", "function"):
            adapted.append(tool)
        elif kind.startswith(SERVER_TOOLS):
            omitted.append(str(tool.get("name") or kind))
        elif known := next((CLIENT_TOOLS[prefix] for prefix in CLIENT_TOOLS if kind.startswith(prefix)), None):
            adapted.append({"name": tool.get("name"), **known})
        else:
            name = shorten(str(tool.get("name") or kind))
            raise Incompatible(
                f"The tool {name} has the type {shorten(kind)}, which only Anthropic's own models know. Describe it by "
                "input_schema.",
                "tools",
            )
    forces = kind_of(choice) in ("any", "tool")
    forced = choice.get("name") if isinstance(choice, dict) and choice.get("type") == "tool" else None
    if forces and (forced in omitted or (omitted and not adapted)):
        name = shorten(forced if forced in omitted else omitted[0])
        message = f"The tool {name} runs only on Anthropic's servers, and is not available here."
        raise Incompatible(message, "tool_choice")
    if omitted and not adapted:
        return _without_tools(fields, choice is None or kind_of(choice) in ("auto", "none")), tuple(omitted)
    return {**fields, "tools": adapted}, tuple(omitted)


def adapt_openai_tools(fields: Fields) -> Adapted:
    """Remove the tools of the Responses API that this server cannot run, and grammars, which vLLM rejects.

    Raises:
        Incompatible: the request forces a removed tool, or requires some tool although all were removed.
    """
    tools = fields.get("tools")
    offered = tools if isinstance(tools, list) else []
    omitted = tuple(dict.fromkeys(kind_of(tool) for tool in offered if _is_foreign(tool)))
    kept = [tool for tool in offered if not _is_foreign(tool)]
    choice = _adapt_choice(fields.get("tool_choice"), {kind_of(tool) for tool in kept}, omitted)
    adapted = {**fields, "tool_choice": choice} if "tool_choice" in fields else fields
    if omitted and not kept:
        return _without_tools(adapted, choice in (None, "auto", "none")), omitted
    if isinstance(tools, list):
        tools = [_describe_grammar(freed) for tool in kept for freed in _free_custom_tools(tool)]
        adapted = {**adapted, "tools": tools}
    return adapted, omitted


def _adapt_choice(choice: Any, kinds: Collection[str], omitted: Sequence[str]) -> Any:
    """The tool_choice of a request whose remaining tools have these kinds."""
    forced = kind_of(choice)
    none_left = bool(omitted) and not kinds
    if forced != "allowed_tools" or not isinstance(choice.get("tools"), list):
        if _is_absent(choice, kinds) or (none_left and (forced or choice == "required")):
            raise _no_tool(forced or omitted[0])
        return choice
    absent = [kind_of(tool) for tool in choice["tools"] if _is_absent(tool, kinds)]
    if not absent and not none_left:
        return choice
    allowed = [tool for tool in choice["tools"] if not _is_absent(tool, kinds)]
    if allowed and not none_left:
        return {**choice, "tools": allowed}
    if choice.get("mode") == "auto":
        return "none"
    raise _no_tool([*absent, *omitted][0])


def _is_absent(part: Any, kinds: Collection[str]) -> bool:
    """Whether a choice names a tool that runs on a server, and the kind of this tool is not among the remaining
    `kinds`."""
    kind = kind_of(part)
    return kind.startswith((*FOREIGN_TOOLS, *TOOL_SERVER_TOOLS)) and kind not in kinds


def _no_tool(kind: str) -> Incompatible:
    return Incompatible(f"The tool type {kind[:64]} is not supported here.", "tool_choice")


def _without_tools(fields: Fields, choice_too: bool = True) -> Fields:
    removed = ("tools", "tool_choice") if choice_too else ("tools",)
    return {name: value for name, value in fields.items() if name not in removed}


def kind_of(part: Any) -> str:
    """The type of a tool, a block or an item; "" if it has none."""
    kind = part.get("type") if isinstance(part, dict) else None
    return kind if isinstance(kind, str) else ""


def _is_foreign(tool: Any) -> bool:
    kind = kind_of(tool)
    return kind.startswith(FOREIGN_TOOLS) and kind not in TOOL_SERVER_TOOLS


def _free_custom_tools(tool: Any) -> list[Any]:
    """Move the custom tools of a namespace out of it, to the same list as the namespace.

    Inside a namespace, vLLM 0.32 does not show custom tools to the model. Codex accepts a call of such a tool by its
    name alone.
    """
    members = list_of(tool, "tools") if kind_of(tool) == "namespace" else []
    custom = [member for member in members if kind_of(member) == "custom"]
    if not custom:
        return [tool]
    rest = [member for member in members if kind_of(member) != "custom"]
    return [*([{**tool, "tools": rest}] if rest else []), *custom]


def _describe_grammar(tool: Any) -> Any:
    """Move the grammar of a custom tool's input to its description, where the model reads it."""
    grammar = tool.get("format") if kind_of(tool) == "custom" else None
    if not isinstance(grammar, dict) or grammar.get("type") != "grammar":
        return tool
    rest = {name: value for name, value in tool.items() if name != "format"}
    rule = f"The input follows this grammar ({grammar.get('syntax')}):\n{grammar.get('definition')}"
    return {**rest, "description": f"{tool.get('description') or ''}\n{rule}".strip()}


def merge_tools(tools: list[Any]) -> list[Any]:
    """Of tools with one type and name, keep the last, at the place of the first. Join namespaces with one name."""
    merged: dict[Any, Any] = {}
    for number, tool in enumerate(tools):
        key = _identity(tool, number)
        if kind_of(tool) == "namespace" and isinstance(tool.get("tools"), list):
            members = list_of(merged.get(key, {}), "tools")
            members.extend(tool["tools"])
            merged[key] = {**tool, "tools": members}
        else:
            merged[key] = tool
    return [_without_duplicates(tool) if kind_of(tool) == "namespace" else tool for tool in merged.values()]


def _without_duplicates(namespace: Fields) -> Fields:
    tools = namespace.get("tools")
    if not isinstance(tools, list):
        return namespace
    return {**namespace, "tools": list({_identity(tool, number): tool for number, tool in enumerate(tools)}.values())}


def _identity(tool: Any, number: int) -> tuple[str, object]:
    """The key that two declarations of one tool share. For anything else, `number` makes the key unique."""
    if not kind_of(tool):
        return "", number
    name = tool.get("name") or tool.get("server_label")
    return kind_of(tool), name if isinstance(name, str) else ""


def list_of(part: Mapping[str, Any], name: str) -> list[Any]:
    """A field that should be a list; [] if it is not one."""
    value = part.get(name)
    return value if isinstance(value, list) else []
