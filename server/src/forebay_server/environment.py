"""The environment as arguments of `vllm serve`: a pure function of the environment and vLLM's flags.

Precedence, lowest first: vLLM's defaults, VLLM_CONFIG_FILE, flags in UPPER_CASE, RunPod's aliases, VLLM_EXTRA_ARGS.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from forebay_server import names
from forebay_server.flags import Flag, Kind

TRUE = frozenset({"true", "1", "yes", "on"})
FALSE = frozenset({"false", "0", "no", "off"})

SUGGESTION_DISTANCE = 2
"""An unknown name this close to a known one is reported as a slip of the pen."""

_NAME = re.compile(r"[A-Z][A-Z0-9_]{3,}")


@dataclass
class Resolution:
    """What the environment asks of vLLM."""

    model: str = ""
    arguments: list[str] = field(default_factory=list)
    """Everything but the model."""
    sources: dict[str, str] = field(default_factory=dict)
    """Option -> the variable that set it, as NAME=value: for error messages."""
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def resolve(
    env: Mapping[str, str],
    flags: Mapping[str, Flag],
    vllm_variables: Iterable[str],
    own_variables: Iterable[str],
    read_config_file: Callable[[str], list[str]],
) -> Resolution:
    """`flags` by UPPER_CASE name; `vllm_variables` and `own_variables` are known names that set no flag;
    `read_config_file` gives the arguments in a file that VLLM_CONFIG_FILE names."""
    result = Resolution()
    arguments: list[str] = []
    if path := env.get(names.CONFIG_FILE):
        arguments += read_config_file(path)
    for name, flag in settable(flags).items():
        aliases = [alias for alias, target in names.ALIASES.items() if target == name and env.get(alias)]
        if name in names.RESERVED and not aliases:
            continue
        variable = aliases[-1] if aliases else name
        value = env.get(variable, "")
        if aliases and env.get(name) and name not in names.RESERVED:
            result.warnings.append(f"{variable} is set, so {name} is ignored.")
        if not value or (name in names.ZERO_IS_UNSET and value.strip() == "0"):
            continue
        try:
            arguments += option_arguments(flag, value)
        except ValueError as error:
            result.errors.append(f"{variable}={value!r}: {error}.")
        result.sources[flag.option] = f"{variable}={value!r}"
    try:
        arguments += shlex.split(env.get(names.EXTRA_ARGUMENTS, ""))
    except ValueError as error:
        result.errors.append(f"{names.EXTRA_ARGUMENTS}: {error}.")
    result.model, result.arguments = take_model(arguments)
    if not result.model:
        result.errors.append("MODEL_NAME is not set: there is no model to serve.")
    result.errors += _refusals(env, flags)
    known = {*flags, *names.ALIASES, *names.LIBRARIES, *names.NOT_YET, *vllm_variables, *own_variables}
    result.warnings += _notices(env, flags, known | {names.CONFIG_FILE, names.EXTRA_ARGUMENTS})
    return result


def settable(flags: Mapping[str, Flag]) -> dict[str, Flag]:
    """The flags that a variable may set, by its own name or by an alias."""
    aliased = set(names.ALIASES.values())
    closed = (names.REFUSED.keys() | names.RESERVED.keys() | names.LIBRARIES.keys()) - aliased
    return {name: flag for name, flag in flags.items() if name not in closed}


def option_arguments(flag: Flag, value: str) -> list[str]:
    """`value` of an environment variable as arguments for `flag`. Raises ValueError saying what was expected."""
    if flag.kind in (Kind.BOOLEAN, Kind.SWITCH):
        word = value.strip().lower()
        if word in TRUE:
            return [flag.option]
        if word in FALSE:
            return ["--no-" + flag.option.removeprefix("--")] if flag.kind is Kind.BOOLEAN else []
        raise ValueError("expected true, 1, yes or on, or false, 0, no or off")
    if flag.kind is Kind.VALUE:
        return [f"{flag.option}={value}"]
    items = list_items(value)
    if flag.kind is Kind.REPEATED:
        return [f"{flag.option}={item}" for item in items]
    return [flag.option, *items]


def list_items(value: str) -> list[str]:
    """The items of a list: a JSON array, one JSON object, or words with commas or blanks between them.

    Raises ValueError for a JSON array that does not parse.
    """
    text = value.strip()
    if text.startswith("["):
        try:
            items = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"expected a JSON list: {error}") from error
        return [item if isinstance(item, str) else json.dumps(item) for item in items]
    if text.startswith("{"):
        return [text]
    return shlex.split(text.replace(",", " "))


def take_model(arguments: list[str]) -> tuple[str, list[str]]:
    """The value of the last --model, and the arguments without any: `vllm serve` wants the model as its first one."""
    model = ""
    rest: list[str] = []
    following = iter(arguments)
    for argument in following:
        if argument == "--model":
            model = next(following, "")
        elif argument.startswith("--model="):
            model = argument.removeprefix("--model=")
        else:
            rest.append(argument)
    return model, rest


def refused_options(given: Mapping[str, object], defaults: Mapping[str, object]) -> list[str]:
    """Errors for parsed flags (by UPPER_CASE name) that would switch off a promise, whatever set them."""
    return [
        f"--{name.lower().replace('_', '-')} cannot be set: {why}."
        for name, why in names.REFUSED.items()
        if name in given and given[name] != defaults.get(name)
    ]


def _refusals(env: Mapping[str, str], flags: Mapping[str, Flag]) -> list[str]:
    refused = {name: why for name, why in names.REFUSED.items() if name in flags and name not in names.RESERVED}
    errors = [f"{name} cannot be set: {why}." for name, why in refused.items() if env.get(name)]
    return errors + [
        f"{name} cannot be set: {why}."
        for name, why in names.REFUSED_VARIABLES.items()
        if env.get(name, "").strip().lower() not in ("", *FALSE)
    ]


def _notices(env: Mapping[str, str], flags: Mapping[str, Flag], known: set[str]) -> list[str]:
    """Warnings for names that are set and have no effect, and for slips of the pen."""
    right_names = known - names.REFUSED.keys() - names.RESERVED.keys()
    notices = []
    for name in sorted(name for name, value in env.items() if value):
        if name in names.RESERVED:
            if remedy := names.RESERVED[name]:
                notices.append(f"{name} has no effect here. {remedy}")
        elif name in names.REMOVED and name not in flags:
            instead = names.REMOVED[name]
            notices.append(
                f"{name} is ignored: vLLM has removed it. " + (f"Set {instead}." if instead else "Nothing replaces it.")
            )
        elif name in names.NOT_YET:
            notices.append(f"{name} has no effect yet.")
        elif name not in known and (suggestion := nearest(name, right_names)):
            notices.append(f"{name} is not known. Did you mean {suggestion}?")
    return notices


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that `name` is a slip of, within SUGGESTION_DISTANCE edits (one for a name of up to five
    letters); "" when there is none. A name of another form than a flag's is none's slip."""
    if not _NAME.fullmatch(name):
        return ""
    limit = SUGGESTION_DISTANCE if len(name) > 5 else 1
    near = ((edit_distance(name, other, limit), other) for other in known if abs(len(name) - len(other)) <= limit)
    distance, other = min(near, default=(limit + 1, ""))
    return other if distance <= limit else ""


def edit_distance(left: str, right: str, limit: int) -> int:
    """The least number of letters to insert, delete, replace or swap with the next; limit + 1 when it is more."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        following = [i]
        for j, b in enumerate(right, 1):
            cost = min(row[j] + 1, following[j - 1] + 1, row[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and b == left[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            following.append(cost)
        if min(following) > limit:
            return limit + 1
        before, row = row, following
    return min(row[-1], limit + 1)
