"""Chooses the tool parser that the server sets, and the reasoning parser that it recommends.

The launch calls it, once the model's small files are in the cache.
"""

import argparse
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from forebay_server.config.model_families import find_parsers
from forebay_server.lifecycle.model_files import ModelFiles

SETTING = "AUTO_TOOL_CALL_PARSER"

TOOL_OPTIONS = frozenset(
    {"--enable-auto-tool-choice", "--no-enable-auto-tool-choice", "--tool-call-parser", "--tool-parser-plugin"}
)
"""If the user gives one of these arguments, the server sets no tool parser."""


@dataclass(frozen=True)
class ParserChoice:
    """The parsers that the model's family needs."""

    arguments: tuple[str, ...] = ()
    """Further arguments of `vllm serve`."""
    notes: tuple[str, ...] = ()
    """A sentence on each parser, for the log."""
    reasoning_parser: str = ""
    """The parser to recommend, if the model thinks and the user has set none."""


def choose_parsers(
    files: ModelFiles,
    arguments: Sequence[str],
    parsed: argparse.Namespace,
    registered: Callable[[str], Collection[str]],
    *,
    automatic: bool,
) -> ParserChoice:
    """Choose the parsers for a model.

    Args:
        files: the model's small files.
        arguments: the user's arguments of `vllm serve`.
        parsed: these arguments as vLLM's parser reads them.
        registered: returns the names that this vLLM has for the flag TOOL_CALL_PARSER or REASONING_PARSER.
        automatic: whether the tool parser may be set.
    """
    if getattr(parsed, "runner", None) == "pooling":
        return ParserChoice()
    parsers = find_parsers(files, tools=automatic and not _has_chosen_tools(arguments, parsed))
    if parsers is None:
        return ParserChoice()
    chosen: tuple[str, ...] = ()
    notes = []
    tools = parsers.tool_parser
    if tools and tools in registered("TOOL_CALL_PARSER"):
        chosen = ("--enable-auto-tool-choice", f"--tool-call-parser={tools}")
        notes.append(f"Tool calls are read by the parser {tools}, as {parsers.family} needs. {SETTING}=0 turns it off.")
    reasoning = "" if getattr(parsed, "reasoning_parser", None) else parsers.reasoning_parser
    if reasoning and reasoning not in registered("REASONING_PARSER"):
        reasoning = ""
    if reasoning:
        notes.append(f"The model may reason before it answers. To separate that, set REASONING_PARSER={reasoning}.")
    return ParserChoice(chosen, tuple(notes), reasoning)


def _has_chosen_tools(arguments: Sequence[str], parsed: argparse.Namespace) -> bool:
    options = {argument.partition("=")[0].replace("_", "-") for argument in arguments}
    return bool(
        options & TOOL_OPTIONS
        or getattr(parsed, "tool_call_parser", None)
        or getattr(parsed, "enable_auto_tool_choice", False)
    )
