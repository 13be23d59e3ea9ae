"""Which of vLLM's parsers the server sets by itself, and which it advises: a pure function of what is known."""

import argparse
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from forebay_server.config.model_families import find_parsers
from forebay_server.lifecycle.model_files import ModelFiles

SETTING = "AUTO_TOOL_CALL_PARSER"

TOOL_OPTIONS = frozenset(
    {"--enable-auto-tool-choice", "--no-enable-auto-tool-choice", "--tool-call-parser", "--tool-parser-plugin"}
)
"""A user who gives one of these has chosen; the server then sets none."""


@dataclass(frozen=True)
class ParserChoice:
    """What follows from the model's family."""

    arguments: tuple[str, ...] = ()
    """For `vllm serve`."""
    notes: tuple[str, ...] = ()
    """A sentence on each parser, for the log."""
    reasoning_parser: str = ""
    """The one to advise: the model thinks, and no parser is set."""


def choose_parsers(
    files: ModelFiles,
    arguments: Sequence[str],
    given: argparse.Namespace,
    registered: Callable[[str], Collection[str]],
    *,
    automatic: bool,
) -> ParserChoice:
    """The parsers for a model.

    Args:
        files: what is known of the model.
        arguments: those of the user, for `vllm serve`.
        given: the same as vLLM's parser reads them.
        registered: the names that this vLLM has for the flag TOOL_CALL_PARSER or REASONING_PARSER.
        automatic: whether the tool parser may be set.
    """
    if getattr(given, "runner", None) == "pooling" or (parsers := find_parsers(files)) is None:
        return ParserChoice()
    chosen: tuple[str, ...] = ()
    notes = []
    tools = parsers.tool_parser
    if automatic and not _has_chosen_tools(arguments, given) and tools and tools in registered("TOOL_CALL_PARSER"):
        chosen = ("--enable-auto-tool-choice", f"--tool-call-parser={tools}")
        notes.append(f"Tool calls are read by the parser {tools}, as {parsers.family} needs. {SETTING}=0 turns it off.")
    reasoning = "" if getattr(given, "reasoning_parser", None) else parsers.reasoning_parser
    if reasoning and reasoning not in registered("REASONING_PARSER"):
        reasoning = ""
    if reasoning:
        notes.append(f"The model may reason before it answers. To separate that, set REASONING_PARSER={reasoning}.")
    return ParserChoice(chosen, tuple(notes), reasoning)


def _has_chosen_tools(arguments: Sequence[str], given: argparse.Namespace) -> bool:
    options = {argument.partition("=")[0].replace("_", "-") for argument in arguments}
    return bool(
        options & TOOL_OPTIONS
        or getattr(given, "tool_call_parser", None)
        or getattr(given, "enable_auto_tool_choice", False)
    )
