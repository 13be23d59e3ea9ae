"""Which parsers fit a model, by its config, its chat template and its tokens; and what the server makes of it."""

import json
from argparse import Namespace
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import pytest

from forebay_server.config.model_families import FAMILIES, find_parsers
from forebay_server.config.parser_choice import ParserChoice, choose_parsers
from forebay_server.lifecycle.model_files import ModelFiles

TOOLS = "{% if tools %}{{ tools | tojson }}{% endif %}"
HERMES = TOOLS + '<tool_call>{"name": f, "arguments": a}</tool_call>'
XML = TOOLS + "<tool_call><function=f><parameter=p></parameter></function></tool_call>"
THINKS = "{{ message.content.split('</think>')[-1] }}"
LLAMA = "<|start_header_id|>" + TOOLS + 'Respond as {"name": function name, "parameters": dictionary}'
DEEPSEEK = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"
ALL_TOKENS = sorted({token for family in FAMILIES for token in family.tokens})

ROWS = [
    ("qwen2", HERMES, "hermes", ""),
    ("qwen2", HERMES + THINKS, "hermes", "deepseek_r1"),  # QwQ
    ("qwen3", HERMES + THINKS, "hermes", "qwen3"),
    ("qwen3_moe", HERMES, "hermes", ""),  # Qwen3 Instruct 2507
    ("qwen3_moe", XML, "qwen3_coder", ""),
    ("qwen3_5", XML + THINKS, "qwen3_coder", "qwen3"),
    ("qwen2", "{{ messages }}", "", ""),  # Qwen2.5-VL
    ("qwen2", "You may call tools by <tool_call>: {{ messages }}", "", ""),
    ("llama", LLAMA, "llama3_json", ""),
    ("llama", "<|start_header_id|>{{ messages }}", "", ""),  # Llama 3
    ("llama", HERMES, "hermes", ""),  # Hermes 2 Pro, Hermes 3
    ("llama", "<|im_start|>{{ messages }}", "", ""),  # SmolLM2
    ("llama", "<｜Assistant｜>" + DEEPSEEK + THINKS, "", "deepseek_r1"),  # R1 distilled
    ("llama4", TOOLS + "[func_name1(params_name1=…)]", "llama4_pythonic", ""),
    ("llama4", TOOLS + '{"name": f, "parameters": p}', "llama4_json", ""),
    ("smollm3", HERMES, "hermes", ""),
    ("mistral", TOOLS + "[TOOL_CALLS]", "mistral", ""),
    ("mistral3", TOOLS + "[TOOL_CALLS][THINK]", "mistral", "mistral"),
    ("mistral", "{{ messages }}", "", ""),  # Mistral 7B v0.1
    ("mistral", None, "mistral", ""),
    ("deepseek_v3", DEEPSEEK + "```json" + THINKS, "", "deepseek_r1"),  # its own template does not name the tools
    ("deepseek_v3", TOOLS + DEEPSEEK + "```json", "deepseek_v3", ""),
    ("deepseek_v3", TOOLS + DEEPSEEK + THINKS, "deepseek_v31", "deepseek_v3"),
    ("deepseek_v32", None, "deepseek_v32", "deepseek_v3"),
    ("deepseek_v4", None, "deepseek_v4", "deepseek_v4"),
    ("kimi_k2", TOOLS + "<|tool_calls_section_begin|>", "kimi_k2", ""),
    ("glm4_moe", TOOLS + "<tool_call>{function-name}\n<arg_key>" + THINKS, "glm45", "glm45"),
    ("glm4_moe", TOOLS + "<tool_call>{function-name}<arg_key>" + THINKS, "glm47", "glm47"),
    ("gpt_oss", TOOLS, "openai", ""),
    ("granite", TOOLS + "<|tool_call|>", "granite", ""),
    ("granitemoehybrid", HERMES, "granite4", ""),
    ("minimax_m2", TOOLS + "<minimax:tool_call>" + THINKS, "minimax_m2", "minimax_m2_append_think"),
    ("hunyuan_v1_moe", TOOLS + "<tool_calls>" + THINKS, "hunyuan_a13b", "hunyuan_a13b"),
    ("phi3", "{{ message['tools'] }}<|tool|>", "", ""),  # its own template reads the tools of a message
    ("phi3", TOOLS + "functools[", "phi4_mini_json", ""),
    ("internlm2", TOOLS + "<|plugin|>", "internlm", ""),
    ("jamba", TOOLS + "<tool_calls>", "jamba", ""),
    ("ernie4_5_moe", TOOLS + "<tool_call>" + THINKS, "ernie45", "ernie45"),
    ("seed_oss", TOOLS + "<seed:tool_call><seed:think>", "seed_oss", "seed_oss"),
    ("step3_vl", TOOLS + '<steptml:invoke name="f">' + THINKS, "step3", "step3"),
    ("olmo3", TOOLS + "<function_calls>", "olmo3", ""),
    ("gemma3_text", "<start_of_turn>{{ messages }}", "", ""),
    ("gemma3_text", TOOLS + "<start_function_call>", "functiongemma", ""),
    ("lfm2", TOOLS + "<|tool_call_start|>", "lfm2", ""),
    ("unheard-of", HERMES, "", ""),
]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added": ALL_TOKENS}))
    return tmp_path


@pytest.mark.parametrize(("kind", "template", "tools", "reasoning"), ROWS)
def test_a_family_is_recognized_by_its_config_and_its_chat_template(
    tokenizer: Path, kind: str, template: str | None, tools: str, reasoning: str
) -> None:
    parsers = find_parsers(ModelFiles("org/model", frozenset({kind}), template, tokenizer))
    assert (parsers.tool_parser, parsers.reasoning_parser) == (tools, reasoning) if parsers else not (tools + reasoning)


def test_the_model_name_decides_if_the_files_do_not(tokenizer: Path) -> None:
    choices = [
        find_parsers(ModelFiles(name, frozenset({"llama"}), LLAMA, tokenizer))
        for name in ("Salesforce/Llama-xLAM-2-8b-fc-r", "org/llama")
    ]
    assert [parsers and parsers.tool_parser for parsers in choices] == ["xlam", "llama3_json"]


@pytest.mark.parametrize(
    ("name", "parser"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "hermes"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", ""),
        ("Qwen/Qwen3-8B", "hermes"),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen3_coder"),
        ("Qwen/Qwen3-Embedding-8B", ""),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3_json"),
        ("meta-llama/Llama-3.1-8B", ""),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral"),
        ("openai/gpt-oss-20b", "openai"),
        ("zai-org/GLM-4.6", "glm45"),
        ("zai-org/GLM-4.7", "glm47"),
        ("moonshotai/Kimi-K2-Instruct", "kimi_k2"),
        ("someone/Qwen3-8B", ""),
        ("s3://bucket/Qwen/Qwen3-8B", ""),
    ],
)
def test_without_files_the_vendors_repository_name_decides_the_family(name: str, parser: str) -> None:
    parsers = find_parsers(ModelFiles(name))
    assert (parsers.tool_parser if parsers else "") == parser
    assert not (parsers and parsers.reasoning_parser)


def test_a_parser_is_not_set_if_the_model_lacks_its_tokens(tmp_path: Path) -> None:
    parsers = find_parsers(ModelFiles("org/model", frozenset({"llama"}), LLAMA, tmp_path))
    assert parsers is not None
    assert parsers.tool_parser == ""


VLLM = {"TOOL_CALL_PARSER": ["hermes"], "REASONING_PARSER": ["qwen3"]}
QWEN = ModelFiles("org/model", frozenset({"qwen3"}), HERMES + THINKS)
SET = ("--enable-auto-tool-choice", "--tool-call-parser=hermes")
UNSET = Namespace(runner="auto", reasoning_parser=None, tool_call_parser=None, enable_auto_tool_choice=False)


def choose(
    arguments: list[str],
    *,
    automatic: bool = True,
    registered: Callable[[str], Collection[str]] = VLLM.__getitem__,
    **given: Any,
) -> ParserChoice:
    return choose_parsers(QWEN, arguments, Namespace(**{**vars(UNSET), **given}), registered, automatic=automatic)


def test_the_tool_parser_is_set_and_the_reasoning_parser_advised() -> None:
    choice = choose(["org/model", "--max-model-len=4096"])
    assert (choice.arguments, choice.reasoning_parser) == (SET, "qwen3")
    assert "AUTO_TOOL_CALL_PARSER=0" in choice.notes[0]
    assert "REASONING_PARSER=qwen3" in choice.notes[1]


@pytest.mark.parametrize(
    "argument",
    [
        "--tool-call-parser=pythonic",
        "--tool_call_parser=pythonic",
        "--no-enable-auto-tool-choice",
        "--enable-auto-tool-choice",
        "--tool-parser-plugin=/mine.py",
    ],
)
def test_the_users_tool_settings_are_unchanged(argument: str) -> None:
    assert choose(["org/model", argument]).arguments == ()


class UnreadFiles(ModelFiles):
    """Files of a model whose tokenizer must not be read."""

    def has_tokens(self, tokens: Iterable[str]) -> bool:
        raise AssertionError("the tokenizer's files are read")


@pytest.mark.parametrize(("argument", "automatic"), [("--tool-call-parser=pythonic", True), ("--seed=1", False)])
def test_the_tokenizer_is_read_only_if_a_tool_parser_is_wanted(argument: str, automatic: bool) -> None:
    files = UnreadFiles("org/model", frozenset({"llama"}), LLAMA)
    registered = {"TOOL_CALL_PARSER": ["llama3_json"], "REASONING_PARSER": []}.__getitem__
    assert choose_parsers(files, ["org/model", argument], UNSET, registered, automatic=automatic) == ParserChoice()
    with pytest.raises(AssertionError, match="are read"):
        choose_parsers(files, ["org/model"], UNSET, registered, automatic=True)


def test_the_setting_disables_the_parser_and_keeps_the_advice() -> None:
    choice = choose(["org/model"], automatic=False)
    assert (choice.arguments, choice.reasoning_parser) == ((), "qwen3")


def test_a_configured_reasoning_parser_is_not_advised() -> None:
    choice = choose(["org/model"], reasoning_parser="deepseek_r1")
    assert (choice.arguments, choice.reasoning_parser, len(choice.notes)) == (SET, "", 1)


def test_a_parser_missing_in_this_vllm_is_neither_set_nor_advised() -> None:
    assert choose(["org/model"], registered=lambda name: []) == ParserChoice()


def test_a_pooling_model_gets_no_parser() -> None:
    assert choose(["org/model"], runner="pooling") == ParserChoice()
