"""A table of model families with vLLM's parsers for their tool calls and reasoning, and how to find a model's family.

Sources: vLLM's docs/features/tool_calling.md and reasoning_outputs.md (0.26 to 0.33), its parsers, and the models' own
chat templates. tests/vllm compares the names with the parsers that vLLM has.
"""

import re
from dataclasses import dataclass

from forebay_server.lifecycle.model_files import ModelFiles

THINKS = "</think>"
"""A text in the chat template of nearly every model that thinks before it answers."""

_RENDERS_TOOLS = re.compile(r"\{[{%][^{}%]*(?<![\w'\"\[.])tools(?![\w'\"])")
"""The variable `tools` in a chat template. A template without it does not show the tools to the model."""


@dataclass(frozen=True)
class ModelFamily:
    """Models that write tool calls and reasoning in the same format."""

    title: str
    kinds: tuple[str, ...]
    """`model_type` in config.json, of the model or of its language model."""
    tool_parser: str = ""
    reasoning_parser: str = ""
    marks: tuple[str, ...] = ()
    """Texts that the chat template must have, all of them. They instruct the model how to write tool calls."""
    lacks: tuple[str, ...] = ()
    """Texts that the chat template must not have."""
    thinks: str = THINKS
    """A text that the chat template has if the model thinks; "" if every member of the family does."""
    tokens: tuple[str, ...] = ()
    """Tokens that the tokenizer must have. Without them vLLM's tool parser fails when the server starts."""
    named: str = ""
    """A regular expression for the model's name, if its files do not distinguish it from other families."""
    repositories: str = ""
    """A regular expression for the names of the vendor's repositories. It finds models whose files are not here."""
    rendered_by_vllm: bool = False
    """Whether vLLM renders the prompt itself, without a chat template."""


_DEEPSEEK_TOKENS = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>")
_QWEN2 = ("qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl")
_QWEN3 = ("qwen3", "qwen3_moe", "qwen3_next", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")
_MISTRAL = ("mistral", "mixtral", "mistral3", "ministral3", "mistral4", "pixtral", "voxtral")
_GRANITE = ("granite", "granitemoe", "granitemoeshared", "granitemoehybrid")
_GLM = ("glm4_moe", "glm4_moe_lite", "glm4v_moe", "glm_moe_dsa")
_XML_CALL = "<function="

FAMILIES = (
    ModelFamily(
        "gpt-oss", ("gpt_oss",), "openai", repositories=r"openai/gpt-oss-", rendered_by_vllm=True
    ),  # vLLM sets its reasoning parser automatically
    ModelFamily(
        "DeepSeek V3.2",
        ("deepseek_v32",),
        "deepseek_v32",
        "deepseek_v3",
        thinks="",
        repositories=r"deepseek-ai/DeepSeek-V3\.2",
        rendered_by_vllm=True,
    ),
    ModelFamily(
        "DeepSeek V4",
        ("deepseek_v4",),
        "deepseek_v4",
        "deepseek_v4",
        thinks="",
        repositories=r"deepseek-ai/DeepSeek-V4-",
        rendered_by_vllm=True,
    ),
    ModelFamily(
        "DeepSeek V3 and R1",
        ("deepseek_v3",),
        "deepseek_v3",
        "deepseek_r1",
        marks=("<｜tool▁calls▁begin｜>", "```json"),
        tokens=_DEEPSEEK_TOKENS,
    ),
    ModelFamily(
        "DeepSeek V3.1",
        ("deepseek_v3",),
        "deepseek_v31",
        "deepseek_v3",
        marks=("<｜tool▁calls▁begin｜>",),
        tokens=_DEEPSEEK_TOKENS,
    ),
    ModelFamily(
        "DeepSeek R1 distilled",
        ("llama", "qwen2", "qwen3"),
        reasoning_parser="deepseek_r1",
        marks=("<｜Assistant｜>",),
        lacks=("<tool_call>",),
    ),
    ModelFamily(
        "Kimi K2",
        ("kimi_k2", "kimi_k25", "deepseek_v3"),
        "kimi_k2",
        "kimi_k2",
        marks=("<|tool_calls_section_begin|>",),
        repositories=r"moonshotai/Kimi-K2-",
    ),
    ModelFamily(
        "GLM 4.7 and 5",
        _GLM,
        "glm47",
        "glm47",
        marks=("{function-name}<arg_key>",),
        repositories=r"zai-org/GLM-(4\.7|5)",
    ),
    ModelFamily("GLM 4.5", _GLM, "glm45", "glm45", marks=("<arg_key>",), repositories=r"zai-org/GLM-4\.[56]"),
    ModelFamily(
        "MiniMax M2",
        ("minimax", "minimax_m2"),
        "minimax_m2",
        "minimax_m2_append_think",
        marks=("<minimax:tool_call>",),
        repositories=r"MiniMaxAI/MiniMax-M2",
    ),
    ModelFamily(
        "Qwen3-Coder and Qwen 3.5",
        _QWEN3,
        "qwen3_coder",
        "qwen3",
        marks=("<tool_call>", _XML_CALL),
        repositories=r"Qwen/Qwen3(-Coder|\.5)-",
    ),
    ModelFamily("xLAM", ("llama", "qwen2"), "xlam", named=r"(?i)xlam", repositories=r"Salesforce/(\w+-)?xLAM-"),
    ModelFamily(
        "Qwen 3",
        _QWEN3,
        "hermes",
        "qwen3",
        marks=("<tool_call>",),
        lacks=("<arg_key>",),
        repositories=r"Qwen/Qwen3-(\d|Next)",
    ),
    ModelFamily(
        "Qwen 2.5 and QwQ",
        _QWEN2,
        "hermes",
        "deepseek_r1",
        marks=("<tool_call>",),
        lacks=(_XML_CALL, "<arg_key>"),
        repositories=r"Qwen/(Qwen2\.5-(\d|Coder|Math)|QwQ-)",
    ),
    ModelFamily("Nemotron 3", ("nemotron_h",), "qwen3_coder", "nemotron_v3", marks=("<tool_call>", _XML_CALL)),
    ModelFamily("Llama 4, calls as Python", ("llama4",), "llama4_pythonic", marks=("[func_name1",)),
    ModelFamily("Llama 4", ("llama4",), "llama4_json", marks=('"parameters"',), tokens=("<|python_tag|>",)),
    ModelFamily(
        "Llama 3.1 to 3.3",
        ("llama", "mllama"),
        "llama3_json",
        marks=("<|start_header_id|>", '"parameters"'),
        lacks=("<tool_call>", "<TOOLCALL>"),
        tokens=("<|python_tag|>",),
        repositories=r"meta-llama/(Meta-)?Llama-3\.[1-3]-.*Instruct",
    ),
    ModelFamily("ToolACE", ("llama",), "pythonic", marks=("[func_name1",)),
    ModelFamily(
        "Hermes, SmolLM3 and others that write as they do",
        ("llama", "mistral", "mixtral", "smollm3", "exaone4"),
        "hermes",
        marks=("<tool_call>",),
        lacks=(_XML_CALL, "<arg_key>"),
        repositories=r"NousResearch/Hermes-(2-(Pro|Theta)|3|4)|HuggingFaceTB/SmolLM3-",
    ),
    ModelFamily(
        "Mistral",
        _MISTRAL,
        "mistral",
        "mistral",
        marks=("[TOOL_CALLS]",),
        thinks="[THINK]",
        tokens=("[TOOL_CALLS]",),
        repositories=r"mistralai/.*Instruct",
    ),
    ModelFamily("Granite 4", _GRANITE, "granite4", marks=("<tool_call>",), repositories=r"ibm-granite/granite-4\."),
    ModelFamily(
        "Granite 3",
        _GRANITE,
        "granite",
        "granite",
        marks=("<|tool_call|>",),
        thinks="Here is my thought process",
        repositories=r"ibm-granite/granite-3\.[1-3]-\w+-instruct",
    ),
    ModelFamily("Phi-4-mini", ("phi3", "phi4mm"), "phi4_mini_json", marks=("functools",)),
    ModelFamily(
        "Hunyuan A13B",
        ("hunyuan_v1_moe", "hunyuan_v1_dense"),
        "hunyuan_a13b",
        "hunyuan_a13b",
        marks=("<tool_calls>",),
        repositories=r"tencent/Hunyuan-A13B-Instruct",
    ),
    ModelFamily("InternLM 2.5", ("internlm2",), "internlm", marks=("<|plugin|>",)),
    ModelFamily(
        "Jamba",
        ("jamba",),
        "jamba",
        marks=("<tool_calls>",),
        tokens=("<tool_calls>", "</tool_calls>"),
        repositories=r"ai21labs/AI21-Jamba-",
    ),
    ModelFamily("ERNIE 4.5", ("ernie4_5_moe", "ernie4_5_moe_vl"), "ernie45", "ernie45", marks=("<tool_call>",)),
    ModelFamily(
        "Seed-OSS",
        ("seed_oss",),
        "seed_oss",
        "seed_oss",
        marks=("<seed:tool_call>",),
        thinks="<seed:think>",
        repositories=r"ByteDance-Seed/Seed-OSS-",
    ),
    ModelFamily("Step 3", ("step3_vl", "step3_text"), "step3", "step3", marks=("<steptml:invoke",)),
    ModelFamily("Step 3.5", ("step3p5",), "step3p5", "step3p5", marks=("<tool_call>", _XML_CALL)),
    ModelFamily(
        "Olmo 3",
        ("olmo3", "olmo_hybrid"),
        "olmo3",
        "olmo3",
        marks=("<function_calls>",),
        repositories=r"allenai/Olmo-3-.*(Instruct|Think)",
    ),
    ModelFamily("FunctionGemma", ("gemma3_text",), "functiongemma", marks=("<start_function_call>",)),
    ModelFamily("Gemma 4", ("gemma4", "gemma4_text"), "gemma4", "gemma4", marks=("<|tool_call>",), thinks="<|channel>"),
    ModelFamily(
        "LFM2",
        ("lfm2", "lfm2_moe"),
        "lfm2",
        marks=("<|tool_call_start|>",),
        tokens=("<|tool_call_start|>", "<|tool_call_end|>"),
    ),
    ModelFamily("LongCat", ("longcat_flash",), "longcat", marks=("<longcat_tool_call>",)),
    ModelFamily("Apertus", ("apertus",), "apertus", marks=("<|tools_prefix|>",)),
)
"""The first family that matches applies, so a row with more marks precedes a row with fewer. Two kinds of families are
omitted: their parser needs a library that the image lacks (cohere_melody), or their official chat template has no
tools."""


@dataclass(frozen=True)
class SuitableParsers:
    """The parsers for one model; "" for no parser."""

    family: str
    tool_parser: str
    reasoning_parser: str


def find_parsers(files: ModelFiles, *, tools: bool = True) -> SuitableParsers | None:
    """Find the parsers for a model. Returns None if its family is not known.

    `tools`: whether a tool parser is wanted. The tokenizer's files are large, and may be read only then.
    """
    if not files.kinds:
        return _find_by_name(files.name, tools=tools)
    family = next((family for family in FAMILIES if _matches(family, files)), None)
    if family is None:
        return None
    template = files.template or ""
    renders_tools = family.rendered_by_vllm or _RENDERS_TOOLS.search(template) or _is_mistrals_own(family, files)
    works = tools and renders_tools and files.has_tokens(family.tokens)
    thinks = family.thinks in template
    return SuitableParsers(family.title, family.tool_parser if works else "", family.reasoning_parser if thinks else "")


def _find_by_name(name: str, *, tools: bool) -> SuitableParsers | None:
    """Find the parsers by the vendor's repository. The repository's name does not say whether the model thinks."""
    for family in FAMILIES:
        if family.repositories and re.match(family.repositories, name):
            return SuitableParsers(family.title, family.tool_parser if tools else "", "")
    return None


def _matches(family: ModelFamily, files: ModelFiles) -> bool:
    if not files.kinds.intersection(family.kinds) or not re.search(family.named, files.name):
        return False
    if family.rendered_by_vllm or _is_mistrals_own(family, files):
        return True
    template = files.template or ""
    return all(mark in template for mark in family.marks) and not any(text in template for text in family.lacks)


def _is_mistrals_own(family: ModelFamily, files: ModelFiles) -> bool:
    """Whether Mistral's own tokenizer renders the prompt. Such repositories need no chat template."""
    return family.tool_parser == "mistral" and files.template is None
