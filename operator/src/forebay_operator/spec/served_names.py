"""Finds the names that clients may send as `model`. It reads spec.args and variables as the server does. Pure.

spec.args overrides VLLM_EXTRA_ARGS, which overrides all other variables.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from forebay_operator.spec.serve_arguments import find_adapters, find_values, split_command_line
from forebay_protocol.env_lists import SERVED_NAME_VARIABLES, is_empty_list, read_list_items, read_lora_modules

ADAPTERS_VARIABLE = "LORA_MODULES"
ARGUMENTS_VARIABLE = "VLLM_EXTRA_ARGS"
"""This variable overrides all other variables. spec.args overrides it."""

FILE_VARIABLE = "VLLM_CONFIG_FILE"
"""This variable names a file of flags, which only the server can read."""

_SERVED_NAME = "--served-model-name"
_OPTIONS_WITH_NAMES = ("--lora-modules", "--config", "--model", _SERVED_NAME)
"""Options of `vllm serve` that can give models names. Argparse accepts a prefix of an option too."""

Variables = Mapping[str, Mapping[str, Any]]
"""Variables of spec.env by their names."""


def find_model_names(arguments: Sequence[str], variables: Variables) -> tuple[str, ...] | None:
    """The names that arguments and variables give the model.

    Returns () if they give none, and None if only a Secret or ConfigMap has them. A value that the server rejects has
    no names.

    Args:
        arguments: the words of spec.args.
        variables: the variables of the endpoint.
    """
    for words in (arguments, _extra_arguments(variables)):
        if names := find_values(words, "SERVED_MODEL_NAME"):
            return names
    setting = find_name_variable(variables)
    if "valueFrom" in variables.get(setting, {}):
        return None
    try:
        return tuple(read_list_items(_value(variables, setting), setting))
    except ValueError:
        return ()


def find_name_variable(variables: Variables) -> str:
    """The variable that names the model; "" if all of SERVED_NAME_VARIABLES are unset.

    RunPod's templates have None and [] for unset variables.
    """
    for name in SERVED_NAME_VARIABLES:
        value = _value(variables, name)
        if value or "valueFrom" in variables.get(name, {}):
            return "" if value == "None" or is_empty_list(value) else name
    return ""


def find_adapter_names(arguments: Sequence[str], variables: Variables) -> tuple[str, ...]:
    """The names of the adapters in spec.args, in VLLM_EXTRA_ARGS, or in LORA_MODULES as in RunPod's templates."""
    for words in (arguments, _extra_arguments(variables)):
        if names := find_adapters(words):
            return names
    modules = read_lora_modules(_value(variables, ADAPTERS_VARIABLE))
    return tuple(module.name for module in modules if module.name)


def may_hide_names(arguments: Sequence[str], variables: Variables) -> bool:
    """Whether a Secret, a ConfigMap, a file or an argument that the operator does not parse may have a name."""
    names = (*SERVED_NAME_VARIABLES, ADAPTERS_VARIABLE, ARGUMENTS_VARIABLE)
    given = [variables[name] for name in names if name in variables]
    return (
        FILE_VARIABLE in variables
        or any("valueFrom" in variable or "$(" in variable.get("value", "") for variable in given)
        or _hides_names(arguments)
        or _hides_names(_extra_arguments(variables))
    )


def _hides_names(arguments: Sequence[str]) -> bool:
    """Whether arguments of `vllm serve` have an option with names that find_model_names does not read."""
    options = {word.partition("=")[0].replace("_", "-") for word in arguments if word.startswith("--")}
    return any(known.startswith(option) for option in options - {_SERVED_NAME} for known in _OPTIONS_WITH_NAMES)


def _extra_arguments(variables: Variables) -> tuple[str, ...]:
    return split_command_line(_value(variables, ARGUMENTS_VARIABLE))


def _value(variables: Variables, name: str) -> str:
    return str(variables.get(name, {}).get("value", "")).strip()
