"""Converts the environment to arguments of `vllm serve`: a pure function of the environment and vLLM's flags.

Precedence, lowest first: vLLM's defaults, VLLM_CONFIG_FILE, flags in UPPER_CASE, RunPod's aliases, VLLM_EXTRA_ARGS,
spec.args of the endpoint (FOREBAY_ARGS). The variables of a model that is baked into the image replace those of the
endpoint (baked_in.py).
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from forebay_protocol.env_lists import is_empty_list, read_list_items
from forebay_protocol.refused_flags import REFUSED_FLAGS
from forebay_protocol.spelling import fold, suggest
from forebay_server.config import speculative, variable_names
from forebay_server.config.vllm_flags import Flag, FlagKind, upper_case

TRUE = frozenset({"true", "1", "yes", "on"})
FALSE = frozenset({"false", "0", "no", "off"})

_PAIR = re.compile(r"\s*(?P<name>[\w.-]+)\s*=\s*(?P<value>[\w.+-]+)\s*")
"""One pair of a dictionary in the older spelling."""

_NAME = re.compile(r"[A-Z][A-Z0-9_]{3,}")


@dataclass(frozen=True)
class Setting:
    """A variable that sets a flag."""

    variable: str
    value: str
    flag: Flag
    arguments: tuple[str, ...]


@dataclass
class Resolution:
    """The environment, resolved for vLLM."""

    model: str = ""
    arguments: list[str] = field(default_factory=list)
    """The arguments except the model."""
    settings: list[Setting] = field(default_factory=list)
    file_arguments: list[str] = field(default_factory=list)
    """The arguments of VLLM_CONFIG_FILE."""
    extra_arguments: list[str] = field(default_factory=list)
    """The arguments of VLLM_EXTRA_ARGS."""
    endpoint_arguments: list[str] = field(default_factory=list)
    """The arguments of spec.args."""
    ignored: list[str] = field(default_factory=list)
    """One sentence for each variable that is set and has no effect."""
    warnings: list[str] = field(default_factory=list)
    """One sentence for each name that is probably misspelt."""
    errors: list[str] = field(default_factory=list)


def resolve_flags(
    env: Mapping[str, str],
    flags: Mapping[str, Flag],
    vllm_variables: Iterable[str],
    own_variables: Iterable[str],
    read_config_file: Callable[[str], list[str]],
) -> Resolution:
    """Resolve the environment.

    Args:
        env: the environment.
        flags: vLLM's flags by UPPER_CASE name.
        vllm_variables: vLLM's variables that set no flag.
        own_variables: the server's variables that set no flag.
        read_config_file: returns the arguments in the file that VLLM_CONFIG_FILE names.
    """
    result = Resolution()
    env = {name: value for name, value in env.items() if value.strip()}
    if path := env.get(variable_names.CONFIG_FILE):
        result.file_arguments = read_config_file(path)
    env = _with_speculative_config(env, result)
    for name, flag in settable(flags).items():
        variable, value = _choose(env, name, result)
        if _is_unset(flag, value):
            continue
        try:
            arguments = option_arguments(flag, value, variable)
        except ValueError as error:
            result.errors.append(f"{variable}={value!r}: {error}.")
        else:
            result.settings.append(Setting(variable, value, flag, tuple(arguments)))
    try:
        result.extra_arguments = shlex.split(env.get(variable_names.EXTRA_ARGUMENTS, ""))
    except ValueError as error:
        result.errors.append(f"{variable_names.EXTRA_ARGUMENTS}: {error}.")
    try:
        result.endpoint_arguments = read_endpoint_arguments(env.get(variable_names.ENDPOINT_ARGUMENTS, "[]"))
    except ValueError as error:
        result.errors.append(f"{variable_names.ENDPOINT_ARGUMENTS}: {error}.")
    overriding = {argument.partition("=")[0].replace("_", "-") for argument in result.endpoint_arguments}
    result.ignored += [
        f"{setting.variable} is ignored: spec.args sets {setting.flag.option}."
        for setting in result.settings
        if {setting.flag.option, setting.flag.negation} & overriding
    ]
    set_by_variables = [argument for setting in result.settings for argument in setting.arguments]
    result.model, result.arguments = take_model(
        [*result.file_arguments, *set_by_variables, *result.extra_arguments, *result.endpoint_arguments]
    )
    if not result.model:
        result.errors.append("MODEL_NAME is not set: there is no model to serve.")
    result.errors += _refusals(env, flags)
    known = {
        *flags,
        *variable_names.ALIASES,
        *variable_names.LIBRARIES,
        *speculative.CONFIG_FIELDS,
        *vllm_variables,
        *own_variables,
    }
    known |= {variable_names.CONFIG_FILE, variable_names.EXTRA_ARGUMENTS, variable_names.ENDPOINT_ARGUMENTS}
    _notice(env, flags, known, result)
    return result


def _choose(env: Mapping[str, str], name: str, result: Resolution) -> tuple[str, str]:
    """The variable that sets the flag `name`, and the value of this variable. An alias overrides the name itself."""
    own = "" if name in variable_names.RESERVED else env.get(name, "")
    aliases = [alias for alias, target in variable_names.ALIASES.items() if target == name and alias in env]
    if not aliases:
        return name, own
    if own:
        result.ignored.append(f"{name} is ignored: {aliases[-1]} is set.")
    return aliases[-1], env[aliases[-1]]


def _is_unset(flag: Flag, value: str) -> bool:
    """Whether a value means that the variable is unset. RunPod's templates have 0, None and [] for unset variables."""
    word = value.strip()
    return (
        not word
        or (flag.name in variable_names.ZERO_IS_UNSET and word == "0")
        or (flag.default is None and word == "None")
        or (flag.kind in (FlagKind.LIST, FlagKind.REPEATED) and is_empty_list(word))
    )


def _with_speculative_config(env: dict[str, str], result: Resolution) -> dict[str, str]:
    """Return `env`, with SPECULATIVE_CONFIG composed from the variables for its parts."""
    parts = speculative.parts_set(env)
    if not parts:
        return env
    if speculative.CONFIG in env:
        result.ignored += [f"{name} is ignored: {speculative.CONFIG} is set." for name in parts]
        return env
    try:
        return {**env, speculative.CONFIG: speculative.compose(parts)}
    except ValueError as error:
        result.errors.append(str(error))
        return env


def settable(flags: Mapping[str, Flag]) -> dict[str, Flag]:
    """The flags that a variable may set, by its own name or by an alias."""
    aliased = set(variable_names.ALIASES.values())
    closed = (REFUSED_FLAGS.keys() | variable_names.RESERVED.keys() | variable_names.LIBRARIES.keys()) - aliased
    return {name: flag for name, flag in flags.items() if name not in closed}


def option_arguments(flag: Flag, value: str, variable: str = "") -> list[str]:
    """Convert the value of a variable to arguments for `flag`. Raises ValueError with the expected form."""
    if flag.kind in (FlagKind.BOOLEAN, FlagKind.SWITCH):
        word = value.strip().lower()
        if word in TRUE:
            return [flag.option]
        if word in FALSE:
            return [flag.negation] if flag.kind is FlagKind.BOOLEAN else []
        raise ValueError(f"expected {flag.expected}")
    if flag.kind is FlagKind.VALUE:
        return [f"{flag.option}={value_text(flag, value)}"]
    items = read_list_items(value, variable)
    if flag.kind is FlagKind.REPEATED:
        return [f"{flag.option}={item}" for item in items]
    return [flag.option, *items]


def value_text(flag: Flag, value: str) -> str:
    """A value as vLLM's parser accepts it.

    A dictionary of pairs such as image=2,video=1 becomes JSON. LIMIT_MM_PER_PROMPT had this form in older versions of
    vLLM. Spaces around any other value are removed. A chat template keeps them, because it may begin with spaces.
    """
    if flag.type != "json":
        return value if flag.name == "CHAT_TEMPLATE" else value.strip()
    pairs = [_PAIR.fullmatch(part) for part in value.split(",")]
    if not all(pairs):
        return value
    return json.dumps({pair["name"]: _read_value(pair["value"]) for pair in pairs if pair})


def _read_value(text: str) -> object:
    """Parse a number, true, false or null as JSON. Returns any other text as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_endpoint_arguments(text: str) -> list[str]:
    """Parse the words of spec.args from the JSON list that the operator writes. Raises ValueError for anything else."""
    try:
        words = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"expected a JSON list of texts: {error}") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("expected a JSON list of texts")
    return words


def take_model(arguments: list[str]) -> tuple[str, list[str]]:
    """Split arguments into the value of the last --model and the others. `vllm serve` wants the model first."""
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


def refused_options(values: Mapping[str, object], defaults: Mapping[str, object]) -> list[str]:
    """Errors for parsed flags (by UPPER_CASE name) that the server refuses, whatever set them."""
    return [
        f"--{name.lower().replace('_', '-')} cannot be set: {why}."
        for name, why in REFUSED_FLAGS.items()
        if name in values and values[name] != defaults.get(name)
    ]


def _refusals(env: Mapping[str, str], flags: Mapping[str, Flag]) -> list[str]:
    refused = {
        name: why for name, why in REFUSED_FLAGS.items() if name in flags and name not in variable_names.RESERVED
    }
    errors = [f"{name} cannot be set: {why}." for name, why in refused.items() if env.get(name)]
    return errors + [
        f"{name} cannot be set: {why}."
        for name, why in variable_names.REFUSED_ENVIRONMENT.items()
        if env.get(name, "").strip().lower() not in ("", *FALSE)
    ]


def _notice(env: Mapping[str, str], flags: Mapping[str, Flag], known: set[str], result: Resolution) -> None:
    """Report variables that have no effect, and names that are probably misspelt."""
    right_names = known - REFUSED_FLAGS.keys() - variable_names.RESERVED.keys()
    negations = {upper_case(flag.negation): flag.name for flag in flags.values() if flag.negation}
    for name in sorted(env):
        if name in variable_names.RESERVED:
            if remedy := variable_names.RESERVED[name]:
                result.ignored.append(f"{name} has no effect here. {remedy}")
        elif name in variable_names.REMOVED and name not in known:
            instead = variable_names.REMOVED[name]
            remedy = f"Set {instead}." if instead else "Nothing replaces it."
            result.ignored.append(f"{name} is ignored: vLLM has removed it. {remedy}")
        elif name in negations and name not in known:
            result.ignored.append(f"{name} has no effect here. Set {negations[name]}, to false or to true.")
        elif name in known or not (_NAME.fullmatch(name) or fold(name) in right_names):
            continue
        elif suggestion := suggest(name, right_names):
            result.warnings.append(f"{name} is not known.{suggestion}")
