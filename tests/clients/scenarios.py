"""The prompts of the clients while their requests are recorded, and the answers of the server."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.clients.answers import Part

LARGEST = "largest"
"""The largest of several requests that a client sends together."""


@dataclass(frozen=True)
class Scenario:
    """One run of a client.

    Attributes:
        client: the program's name in node_modules/.bin.
        answers: of the server, one after another; "DONE" follows the last. {folder} stands for the project's folder.
        keep: which of the recorded requests are kept, by their place, or LARGEST; all for None.
    """

    name: str
    client: str
    prompt: str
    answers: tuple[tuple[Part, ...], ...] = ()
    arguments: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    keep: tuple[int, ...] | str | None = None


THINKING = {"type": "thinking", "thinking": "I use a tool.", "signature": "0123456789abcdef0123456789abcdef"}
REDACTED = {"type": "redacted_thinking", "data": "cmVkYWN0ZWQ="}
SERVER_SEARCH = (
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "dams"}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [
            {
                "type": "web_search_result",
                "url": "https://example.com/dams",
                "title": "Dams",
                "encrypted_content": "ZW5jcnlwdGVk",
                "page_age": "1 day",
            }
        ],
    },
)
"""How Anthropic's own servers answer with a search."""

REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "I use a tool."}],
}
"""As vLLM gives it."""

ENCRYPTED_REASONING = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "ZW5jcnlwdGVk"}
FOREIGN_SEARCH = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "dams"},
}
"""As OpenAI's own servers give it."""

PATCH = "*** Begin Patch\n*** Update File: notes.txt\n@@\n-The dam stood.\n+The dam stands.\n*** End Patch\n"


def use(name: str, **arguments: object) -> Part:
    """A call of a tool in the Messages API."""
    return {"type": "tool_use", "id": f"toolu_{name.lower()}", "name": name, "input": arguments}


def call(name: str, arguments: str) -> Part:
    """A call of a function in the Responses API."""
    item = {"type": "function_call", "id": "fc_1", "status": "completed", "call_id": f"call_{name}", "name": name}
    return {**item, "arguments": arguments}


APPLY_PATCH = {
    "type": "custom_tool_call",
    "id": "ctc_1",
    "status": "completed",
    "call_id": "call_apply_patch",
    "name": "apply_patch",
    "input": PATCH,
}

SCENARIOS = (
    Scenario(
        "claude_read_and_search",
        "claude",
        "What does notes.txt say, and what does the web?",
        (
            (THINKING, {"type": "text", "text": "I look."}, use("Read", file_path="{folder}/notes.txt")),
            (use("WebSearch", query="dams"),),
        ),
        ("--allowedTools", "Read", "WebSearch"),
        keep=(2, 3),
    ),
    Scenario(
        "claude_tool_search",
        "claude",
        "Search the web for dams.",
        ((use("ToolSearch", query="select:WebSearch", max_results=3),),),
        ("--allowedTools", "ToolSearch", "WebSearch"),
        {"ENABLE_TOOL_SEARCH": "true"},
        keep=(1,),
    ),
    Scenario(
        "claude_after_anthropic",
        "claude",
        "What does notes.txt say?",
        (
            (
                THINKING,
                REDACTED,
                *SERVER_SEARCH,
                {"type": "text", "text": "I look."},
                use("Read", file_path="{folder}/notes.txt"),
            ),
        ),
        ("--allowedTools", "Read", "--tools", "Read"),
        keep=(1,),
    ),
    Scenario(
        "claude_image",
        "claude",
        "What is in image.png?",
        ((use("Read", file_path="{folder}/image.png"),),),
        ("--allowedTools", "Read", "--tools", "Read"),
        keep=(1,),
    ),
    Scenario(
        "claude_thinking_budget",
        "claude",
        "Say hello.",
        arguments=("--model", "claude-haiku-4-5", "--tools", "Read"),
        keep=LARGEST,
    ),
    Scenario(
        "codex_image",
        "codex",
        "What is in image.png?",
        ((REASONING, call("view_image", '{"path": "image.png"}')),),
        keep=(1,),
    ),
    Scenario("claude_context", "claude", "/context", keep=LARGEST),
    Scenario(
        "codex_command",
        "codex",
        "What does notes.txt say?",
        ((REASONING, call("exec_command", '{"cmd": "cat notes.txt"}')),),
        keep=(1,),
    ),
    Scenario(
        "codex_patch",
        "codex",
        "Change notes.txt.",
        ((REASONING, APPLY_PATCH),),
        ("--model", "gpt-5.5"),
        keep=(1,),
    ),
    Scenario(
        "codex_additional_tools",
        "codex",
        "Say hello.",
        arguments=("--model", "gpt-6-astra"),
    ),
    Scenario(
        "codex_after_openai",
        "codex",
        "What does notes.txt say?",
        ((ENCRYPTED_REASONING, FOREIGN_SEARCH, call("exec_command", '{"cmd": "cat notes.txt"}')),),
        keep=(1,),
    ),
)
