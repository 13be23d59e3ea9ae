"""The parsers that a model family gets automatically are vLLM's, and a server with one answers."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forebay_server.config.model_families import FAMILIES
from tests.vllm.server import Server, environment
from tests.vllm.server_calls import ask

TEMPLATE = "{% if tools %}{{ tools | tojson }}<tool_call>{% endif %}{{ messages[0].content }}"
"""A chat template that marks a model of the kind llama as one with Hermes' format."""

REGISTERED = """
import json
from forebay_server import vllm_compat
print(json.dumps({name: vllm_compat.registered(name) for name in ("TOOL_CALL_PARSER", "REASONING_PARSER")}))
"""

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.gate
def test_every_parser_of_the_table_is_one_of_vllms(vllm_python: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [vllm_python, "-c", REGISTERED],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    known = json.loads(done.stdout.splitlines()[-1])
    tools = {family.tool_parser for family in FAMILIES} - {""}
    reasoning = {family.reasoning_parser for family in FAMILIES} - {""}
    assert tools <= set(known["TOOL_CALL_PARSER"])
    assert reasoning <= set(known["REASONING_PARSER"])


def call_a_tool(server: Server) -> tuple[int, Any]:
    server.wait_for("/readyz")
    question = [{"role": "user", "content": "Hello"}]
    return ask(server, "/v1/chat/completions", model="tiny", messages=question, tools=[WEATHER], max_tokens=4)


def test_a_known_model_family_can_call_tools_without_a_setting(serve: Callable[..., Server]) -> None:
    server = serve(CUSTOM_CHAT_TEMPLATE=TEMPLATE, OPENAI_SERVED_MODEL_NAME_OVERRIDE="tiny")
    status, reply = call_a_tool(server)
    assert status == 200, reply
    assert "Tool calls are read by the parser hermes" in server.log.read_text()


def test_the_setting_disables_the_parser(serve: Callable[..., Server]) -> None:
    off = {"AUTO_TOOL_CALL_PARSER": "0", "OPENAI_SERVED_MODEL_NAME_OVERRIDE": "tiny"}
    server = serve(CUSTOM_CHAT_TEMPLATE=TEMPLATE, **off)
    status, reply = call_a_tool(server)
    assert status == 400, reply
    assert "TOOL_CALL_PARSER" in reply["error"]["message"]
    tools = [
        {"name": "read", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search"},
    ]
    messages = [{"role": "user", "content": "Hello"}]
    status, reply = ask(server, "/v1/messages", model="tiny", max_tokens=4, messages=messages, tools=tools)
    assert (status, "web_search" in reply["error"]["message"]) == (400, True), reply
