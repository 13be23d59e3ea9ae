"""What clients send by other names than vLLM's, put as vLLM takes it, or refused by name.

The gate asks for every body, and the job runner for what a job's input stands for. Pure.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from forebay_protocol.errors import ApiError

Fields = dict[str, Any]

CHAT, COMPLETIONS, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"

GUIDED = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "guided_json_object": "json_object",
    "guided_whitespace_pattern": "whitespace_pattern",
}
"""Fields of vLLM before 0.12 -> the part of structured_outputs that has taken their place."""

_OPTIONS = frozenset({"guided_whitespace_pattern"})
"""Those that are no constraint by themselves."""

_BACKEND = "guided_decoding_backend"

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
    "shell",
    "tool_search",
    "web_search",
)
"""How the types of the Responses API's tools begin that OpenAI's servers run, or that only its own models know: vLLM
leaves them out and says nothing."""

TOOL_SERVER_TOOLS = ("code_interpreter", "container", "mcp", "web_search_preview")
"""Those that vLLM itself runs where TOOL_SERVER is set; they are left to it."""


class Incompatible(Exception):
    """The request asks for something that cannot be done here; carries the answer."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.error = ApiError(400, message, "unsupported_parameter", param)


@dataclass(frozen=True)
class AdaptedBody:
    """A request's body for vLLM, and the names of the tools that it does without."""

    content: bytes
    left_out: tuple[str, ...] = ()


def adapt_body(path: str, body: bytes) -> AdaptedBody:
    """A request's body for vLLM. `path` is as vLLM knows it. A body that is no JSON object is vLLM's to refuse.

    Raises:
        Incompatible: it asks for something that cannot be done here.
    """
    marker = _MARKERS.get(path)
    if marker is None or not marker.search(body):
        return AdaptedBody(body)
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return AdaptedBody(body)
    if not isinstance(fields, dict) or (adapted := adapt_fields(path, fields)) == fields:
        return AdaptedBody(body)
    try:
        content = json.dumps(adapted).encode()
    except RecursionError:
        raise Incompatible("The request's body is nested too deeply.") from None
    return AdaptedBody(content, _left_out(fields, adapted))


def adapt_fields(path: str, fields: Mapping[str, Any]) -> Fields:
    """The fields of a request as vLLM takes them.

    Raises:
        Incompatible: they ask for something that cannot be done here.
    """
    adapted = dict(fields)
    for adapt in _ADAPTERS.get(path, ()):
        adapted = adapt(adapted)
    return adapted


def adapt_guided(fields: Fields) -> Fields:
    """guided_json and the like as structured_outputs."""
    given = {name: value for name in GUIDED if not _says_nothing(value := fields.get(name))}
    rest = {name: value for name, value in fields.items() if name not in GUIDED and name != _BACKEND}
    if fields.get(_BACKEND) is not None:
        raise Incompatible(
            f"{_BACKEND} cannot be set for a request: vLLM chooses the backend. Set STRUCTURED_OUTPUTS_CONFIG in "
            "spec.env for the whole server.",
            _BACKEND,
        )
    if not given:
        return rest
    constraints = [name for name in given if name not in _OPTIONS]
    if rest.get("structured_outputs") is not None:
        raise Incompatible(f"Send {next(iter(given))} or structured_outputs, not both.", "structured_outputs")
    if len(constraints) > 1:
        raise Incompatible(f"Send one of {' and '.join(constraints)}, not both.", constraints[1])
    return {**rest, "structured_outputs": {GUIDED[name]: value for name, value in given.items()}}


def _says_nothing(constraint: Any) -> bool:
    return constraint is None or constraint is False or constraint == ""


def adapt_greedy(fields: Fields) -> Fields:
    """Several choices at temperature 0, and top_p 0, as the one most likely token: OpenAI takes both, vLLM neither."""
    adapted = dict(fields)
    if fields.get("use_beam_search"):
        return adapted
    if _is_zero(fields.get("top_p")):
        del adapted["top_p"]
        adapted["top_k"] = 1
    choices = fields.get("n")
    if isinstance(choices, int) and choices > 1 and _is_zero(fields.get("temperature")):
        adapted |= {"temperature": 1, "top_k": 1}
    return adapted


def _is_zero(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == 0


def adapt_suffix(fields: Fields) -> Fields:
    """Without a suffix that says nothing, which vLLM refuses for most models."""
    return {name: value for name, value in fields.items() if name != "suffix" or value not in ("", None)}


def adapt_guided_messages(fields: Fields) -> Fields:
    """guided_json as the output format of the Messages API, which has no other constraint."""
    rest = {name: value for name, value in fields.items() if name not in GUIDED and name != _BACKEND}
    for name in (*GUIDED, _BACKEND):
        if name != "guided_json" and not _says_nothing(fields.get(name)):
            raise Incompatible(f"The Messages API has nothing for {name}. Use {CHAT} with structured_outputs.", name)
    schema = fields.get("guided_json")
    if _says_nothing(schema):
        return rest
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError):
            raise Incompatible("guided_json is no JSON.", "guided_json") from None
    config = rest.get("output_config") or {}
    if not isinstance(config, dict) or config.get("format") is not None:
        raise Incompatible("Send guided_json or output_config.format, not both.", "output_config")
    return {**rest, "output_config": {**config, "format": {"type": "json_schema", "schema": schema}}}


def adapt_anthropic_tools(fields: Fields) -> Fields:
    """Tools of the Messages API that have a type of Anthropic's in place of a schema."""
    tools = fields.get("tools")
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
    choice = fields.get("tool_choice")
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


def _left_out(fields: Mapping[str, Any], adapted: Mapping[str, Any]) -> tuple[str, ...]:
    kept = set(_tool_names(adapted))
    return tuple(name for name in _tool_names(fields) if name not in kept)


def _tool_names(fields: Mapping[str, Any]) -> list[str]:
    tools = fields.get("tools")
    found = tools if isinstance(tools, list) else []
    names = (tool.get("name") or tool.get("type") for tool in found if isinstance(tool, dict))
    return [name for name in names if isinstance(name, str)]


Adapt = Callable[[Fields], Fields]

_ADAPTERS: Mapping[str, Collection[Adapt]] = {
    CHAT: (adapt_guided, adapt_greedy),
    f"{CHAT}/batch": (adapt_guided, adapt_greedy),
    COMPLETIONS: (adapt_guided, adapt_greedy, adapt_suffix),
    RESPONSES: (adapt_guided, adapt_greedy, adapt_openai_tools),
    MESSAGES: (adapt_guided_messages, adapt_anthropic_tools),
    f"{MESSAGES}/count_tokens": (adapt_anthropic_tools,),
}

_FOR_OPENAI = re.compile(rb'"(?:guided_|suffix"|n"\s*:\s*(?:[2-9]|1\d)|top_p"\s*:\s*0(?:\.0*)?\s*[,}])')
_FOR_ANTHROPIC = re.compile(
    rb'"(?:guided_|%s)' % b"|".join(kind.encode() for kind in (*SERVER_TOOLS, *CLIENT_TOOLS, "computer_"))
)

_FOR_RESPONSES = re.compile(rb'%s|"(?:grammar"|%s)' % (_FOR_OPENAI.pattern, b"|".join(map(str.encode, FOREIGN_TOOLS))))

_MARKERS: Mapping[str, re.Pattern[bytes]] = {
    **dict.fromkeys((CHAT, f"{CHAT}/batch", COMPLETIONS), _FOR_OPENAI),
    RESPONSES: _FOR_RESPONSES,
    **dict.fromkeys((MESSAGES, f"{MESSAGES}/count_tokens"), _FOR_ANTHROPIC),
}
"""What is in every body that an adapter may change: a body without it is not read here."""
