"""Set every flag of this environment's vLLM by its variable, to valid values and to an invalid one.

A program for an environment, or an image, that has vLLM and forebay-server; it prints a report as JSON and its exit
status is 1 when something failed: `python every_flag.py`, or `docker run -i … python3 - < every_flag.py`.
"""

import argparse
import contextlib
import json
import re
import sys
from importlib.metadata import version
from typing import Any

from forebay_protocol.refused_flags import REFUSED_FLAGS
from forebay_server import launch, vllm_compat
from forebay_server.config import settings, variable_names
from forebay_server.config.env_to_flags import Resolution, option_arguments, resolve_flags, settable
from forebay_server.config.vllm_flags import Flag, FlagKind, flags_of
from forebay_server.failure import StartError

SAMPLES = ("8", "0.5", "{}", "[]", "text", "name=/path", "FLASH_ATTN")
"""Values of which each flag accepts at least one."""

NOT_FOR_PEOPLE = re.compile(
    r"human_readable|_optional_type|_parse_type|parse_dataclass|<class|<function|<lambda>|repr\("
)
"""Texts that no message may contain."""

WRONG = {"bool": "maybe", "int": "many", "float": "lots", "json": "{bad"}
"""Type -> an invalid value. Any text is valid."""


def main() -> int:
    parser = vllm_compat.serve_parser()
    flags = flags_of(parser)
    failures: list[str] = []
    right = wrong = 0
    for name, flag in settable(flags).items():
        if name in variable_names.RESERVED:
            continue
        problems, values = set_rightly(parser, flags, flag)
        failures += problems
        right += values
        if flag.type in WRONG or flag.choices:
            failures += set_wrongly(parser, flags, flag)
            wrong += 1
    failures += stay_closed(flags) + ignore_what_is_empty(flags)
    declared = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
    listed = {option for flag in flags.values() for option in (flag.option, flag.negation)}
    failures += [f"{option} is the first name of no flag" for option in first_names(parser) - listed - {"--help"}]
    report = {
        "vllm": version("vllm"),
        "flags": len(flags),
        "options": len(declared),
        "closed": len(flags) - len(settable(flags)),
        "right values": right,
        "wrong values": wrong,
        "failures": failures,
    }
    print(json.dumps(report, indent=1))
    return 1 if failures else 0


def first_names(parser: argparse.ArgumentParser) -> set[str]:
    """The first long option of each action."""
    long_names = ([option for option in action.option_strings if option.startswith("--")] for action in parser._actions)
    return {options[0] for options in long_names if options}


def resolved(flags: dict[str, Flag], **env: str) -> Resolution:
    return resolve_flags({"MODEL_NAME": "any", **env}, flags, [], settings.DESCRIPTIONS, lambda path: [])


def set_rightly(parser: argparse.ArgumentParser, flags: dict[str, Flag], flag: Flag) -> tuple[list[str], int]:
    """Failures, and how many values were tried: what the variable sets must be what vLLM's own option sets."""
    dest = flag.name.lower()
    problems, tried = [], 0
    if flag.type == "bool":
        off = False if flag.kind is FlagKind.BOOLEAN else parser.get_default(dest)
        expected: list[tuple[str, Any]] = [("true", True), ("0", off)]
    else:
        samples = [*flag.choices[:1], *SAMPLES]
        expected = [(sample, value) for sample in samples if (value := plain(parser, flag, sample)) is not REFUSED]
    for value, reading in expected:
        result = resolved(flags, **{flag.name: value})
        parsed = getattr(parser.parse_args(["--model=any", *result.arguments]), dest)
        tried += 1
        if _without_ids(parsed) != _without_ids(reading) or result.errors:
            problems.append(f"{flag.name}={value}: {parsed!r} in place of {reading!r} {result.errors}")
    if not tried:
        problems.append(f"{flag.name}: takes none of {SAMPLES}")
    return problems, tried


def _without_ids(value: object) -> str:
    """vLLM gives some configurations a random id."""
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", repr(value))


REFUSED = object()


def plain(parser: argparse.ArgumentParser, flag: Flag, value: str) -> object:
    """The value that vLLM parses from the option, or REFUSED."""
    arguments = [flag.option, value] if flag.kind is FlagKind.LIST else [f"{flag.option}={value}"]
    if flag.kind in (FlagKind.LIST, FlagKind.REPEATED) and option_arguments(flag, value) != arguments:
        return REFUSED  # a form of list that only the variable has
    with contextlib.suppress(vllm_compat.UsageError):
        return getattr(parser.parse_args(["--model=any", *arguments]), flag.name.lower())
    return REFUSED


def set_wrongly(parser: argparse.ArgumentParser, flags: dict[str, Flag], flag: Flag) -> list[str]:
    """The message must name the variable, its value and the expected values, in plain words."""
    value = "no-such-choice" if flag.choices else WRONG[flag.type]
    result = resolved(flags, **{flag.name: value})
    settings_of_it = [setting for setting in result.settings if setting.variable == flag.name]
    message = " ".join(result.errors + [launch.setting_error(parser, setting) for setting in settings_of_it])
    if message.startswith(f"{flag.name}={value!r}: ") and not NOT_FOR_PEOPLE.search(message):
        return []
    return [f"{flag.name}={value}: says {message!r}"]


def stay_closed(flags: dict[str, Flag]) -> list[str]:
    """Reserved names and secrets set nothing; a flag that would disable a promised feature is refused."""
    failures = []
    for name in flags:
        result = resolved(flags, **{name: "1"})
        if name in variable_names.RESERVED or name in variable_names.LIBRARIES:
            if len(result.settings) > 1 or result.errors:  # MODEL_NAME is one
                failures.append(f"{name} sets a flag")
        elif name in REFUSED_FLAGS and not result.errors:
            failures.append(f"{name} is not refused")
    for option in ("--port=9", "--api-key=k", "--root-path=/x", "--api-server-count=2"):
        try:
            launch.plan({"MODEL_NAME": "any", variable_names.EXTRA_ARGUMENTS: option})
        except StartError:
            continue
        failures.append(f"{option} is not refused")
    for name in REFUSED_FLAGS.keys() & flags.keys():
        flag = flags[name]
        option = flag.option if flag.type == "bool" else f"{flag.option}={5 if flag.type == 'int' else 'x'}"
        try:
            launch.plan({"MODEL_NAME": "any", variable_names.ENDPOINT_ARGUMENTS: json.dumps([option])})
        except StartError as error:
            if error.failure.message.startswith(f"spec.args: {flag.option} cannot be set: "):
                continue
        failures.append(f"spec.args: {option} is not refused by its name")
    return failures


def ignore_what_is_empty(flags: dict[str, Flag]) -> list[str]:
    result = resolved(flags, **dict.fromkeys(settable(flags), ""), MODEL_NAME="any")
    return [
        f"{setting.variable} empty sets {setting.arguments}" for setting in result.settings if setting.value != "any"
    ]


if __name__ == "__main__":
    sys.exit(main())
