"""Converts the environment to the arguments of `vllm serve`, and checks them with vLLM's own parser.

The command line and the inspection call it.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from forebay_protocol.spelling import suggest
from forebay_server import vllm_compat
from forebay_server.app import FOREBAY_MIDDLEWARE, PLUGIN
from forebay_server.config import env_to_flags, invalid_values, settings, speculative, variable_names
from forebay_server.config.catalogue import catalogue, find_recognized
from forebay_server.config.env_to_flags import Resolution, Setting
from forebay_server.config.parser_choice import choose_parsers
from forebay_server.config.vllm_flags import Flag, flags_of
from forebay_server.failure import invalid_configuration
from forebay_server.lifecycle.model_files import ModelFiles, embeds, find_model_folder, read_model_files
from forebay_server.serving.ops_server import any_address

REMEDY = (
    "Correct spec.env or spec.args of the endpoint. "
    "`forebay-server flags` (docs/configuration.md) lists the variables that you can set."
)

ARGS_FIELD = "spec.args"
"""The name that errors have for the source of FOREBAY_ARGS. The operator sets that variable from this field."""


@dataclass(frozen=True)
class Launch:
    """How vLLM is run."""

    model: str
    arguments: list[str]
    """The arguments of `vllm serve`, the model first."""
    parsed: argparse.Namespace = field(default_factory=argparse.Namespace)
    """The arguments as vLLM's parser reads them, without the defaults for a CPU."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables to set for vLLM."""
    fork_engine: bool = False
    """Whether the engine's process is forked, so that it need not import vLLM again."""
    recognized: dict[str, str] = field(default_factory=dict)
    """The variables of the environment that this vLLM or the server knows, with their status in the catalogue."""
    ignored: tuple[str, ...] = ()
    """A sentence for each variable that has no effect."""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """A sentence for each consequence of the model's files."""
    reasoning_parser: str = ""
    """The reasoning parser to recommend: the model's family needs it, and the user has set none."""


def plan(env: Mapping[str, str]) -> Launch:
    """Plan the start of vLLM. Imports vLLM, which takes seconds.

    Raises StartError (InvalidConfiguration), which names the invalid variable.
    """
    parser = vllm_compat.serve_parser()
    flags = flags_of(parser)
    resolution = resolve_env(env, parser, flags)
    if resolution.errors:
        raise invalid_configuration(" ".join(resolution.errors), REMEDY)
    parsed = parse(parser, resolution)
    if refused := refused_flags(parser, parsed):
        raise invalid_configuration(" ".join(refused), REMEDY)
    arguments: list[str] = []
    variables = {"VLLM_PLUGINS": plugins(env.get("VLLM_PLUGINS"), vllm_compat.plugin_names())}
    if vllm_compat.is_cpu():
        arguments, cpu_variables = cpu_defaults(parsed, env)
        variables |= cpu_variables
    own = ["--host", any_address(), "--port", str(settings.HTTP_PORT), "--api-server-count", "1"]
    own += ["--middleware", FOREBAY_MIDDLEWARE]
    return Launch(
        model=resolution.model,
        arguments=[resolution.model, *arguments, *cors_defaults(env), *resolution.arguments, *own],
        parsed=parsed,
        variables=variables,
        fork_engine=may_fork(parsed, env) if vllm_compat.is_cpu() else False,
        recognized=find_recognized(env, catalogue(flags, vllm_compat.environment_variables())),
        ignored=tuple(resolution.ignored),
        warnings=tuple(resolution.warnings),
    )


def add_parsers(launch: Launch, hub_cache: Path, *, automatic: bool) -> Launch:
    """Add the tool parser of the model's family to `launch`, if the user has chosen none and vLLM has it.

    Call it when the model's small files are here. Without them only the repository's name identifies the family.
    """
    choice = choose_parsers(
        find_model_files(launch, hub_cache),
        launch.arguments,
        launch.parsed,
        vllm_compat.registered,
        automatic=automatic,
    )
    arguments = [*launch.arguments, *choice.arguments]
    return replace(launch, arguments=arguments, notes=choice.notes, reasoning_parser=choice.reasoning_parser)


def find_model_files(launch: Launch, hub_cache: Path) -> ModelFiles:
    """Read the model's small files. Returns an empty ModelFiles for a model that answers with vectors."""
    parsed = launch.parsed
    folder = find_model_folder(launch.model, parsed.revision, hub_cache)
    if embeds(folder):
        return ModelFiles("")
    tokenizer = (
        find_model_folder(parsed.tokenizer, parsed.tokenizer_revision, hub_cache) if parsed.tokenizer else folder
    )
    return read_model_files(launch.model, folder, tokenizer, parsed.chat_template)


def cors_defaults(env: Mapping[str, str]) -> list[str]:
    """Arguments that let the web pages of every site call an endpoint with keys. A page needs a key like any client.

    An endpoint without keys keeps vLLM's default, which allows no site. If all sites were allowed, every page in the
    browser of somebody who can reach the endpoint could use it.
    """
    requires_key = env.get("FOREBAY_AUTH") == "APIKey"
    return ['--allowed-origins=["*"]'] if requires_key and not env.get("ALLOWED_ORIGINS") else []


def resolve_env(env: Mapping[str, str], parser: argparse.ArgumentParser, flags: Mapping[str, Flag]) -> Resolution:
    """Call resolve_flags with this vLLM's names. Raises StartError for a config file that cannot be read."""
    try:
        return env_to_flags.resolve_flags(
            env,
            flags,
            vllm_compat.environment_variables(),
            settings.DESCRIPTIONS,
            lambda path: vllm_compat.config_file_arguments(parser, path),
        )
    except vllm_compat.UsageError as error:
        raise invalid_configuration(
            f"{variable_names.CONFIG_FILE}: {error}",
            f"Correct {variable_names.CONFIG_FILE}: it names a YAML file of vLLM's flags.",
        ) from error


def parse(parser: argparse.ArgumentParser, resolution: Resolution) -> argparse.Namespace:
    """Parse the arguments with vLLM's parser. Raises StartError, which names every variable with a wrong value."""
    errors = [error for setting in resolution.settings if (error := setting_error(parser, setting))]
    for label, arguments in (
        (variable_names.CONFIG_FILE, resolution.file_arguments),
        (variable_names.EXTRA_ARGUMENTS, resolution.extra_arguments),
        (ARGS_FIELD, resolution.endpoint_arguments),
    ):
        if error := arguments_error(parser, label, arguments):
            errors.append(error)
    if errors:
        raise invalid_configuration(" ".join(errors), REMEDY)
    try:
        parsed = parser.parse_args([f"--model={resolution.model}", *resolution.arguments])
    except vllm_compat.UsageError as error:
        raise invalid_configuration(f"vLLM does not take the arguments: {error}", REMEDY) from error
    if errors := combination_errors(parsed):
        raise invalid_configuration(" ".join(errors), REMEDY)
    return parsed


def setting_error(parser: argparse.ArgumentParser, setting: Setting) -> str:
    """The error in the value of one variable; "" if it is right."""
    label = f"{setting.variable}={setting.value!r}"
    if setting.flag.name == "MODEL":
        return ""
    try:
        parsed = parser.parse_args(["--model=any", *setting.arguments])
    except vllm_compat.UsageError as error:
        value = env_to_flags.value_text(setting.flag, setting.value)
        return invalid_values.describe(label, setting.flag, value, error, vllm_compat.config_keys)
    value = getattr(parsed, _dest(setting.flag))
    if problem := vllm_compat.value_problem(setting.flag.group, _dest(setting.flag), value):
        return f"{label}: {invalid_values.describe_problem(problem)}."
    if isinstance(value, str) and invalid_values.looks_like_json(value):
        return invalid_values.no_json(label, value)
    if setting.variable == speculative.CONFIG and isinstance(value, dict):
        return dictionary_error(label, "SpeculativeConfig", value)
    return ""


def arguments_error(parser: argparse.ArgumentParser, label: str, arguments: list[str]) -> str:
    """The error in the arguments of one source: a config file, VLLM_EXTRA_ARGS or spec.args; "" if they are right."""
    flags = {flag.option: flag for flag in flags_of(parser).values()}
    try:
        parsed = parser.parse_args(["--model=any", *arguments])
    except vllm_compat.UsageError as error:
        if flag := flags.get(error.option):
            where = f"{label}: {flag.option}"
            return invalid_values.describe(where, flag, _value_of(flag, arguments), error, vllm_compat.config_keys)
        if str(error).startswith("unrecognized arguments"):
            return f"{label}: {invalid_values.unknown_options(str(error), flags)}"
        return f"{label}: {error}."
    if parsed.model_tag is not None:
        model = "spec.model" if label == ARGS_FIELD else "MODEL_NAME"
        return f"{label}: {parsed.model_tag!r} belongs to no flag. Name the model by {model}."
    if refused := refused_flags(parser, parsed):
        return f"{label}: {' '.join(refused)}"
    for option in dict.fromkeys(argument.partition("=")[0].replace("_", "-") for argument in arguments):
        if flag := flags.get(option):
            value = getattr(parsed, _dest(flag))
            if problem := vllm_compat.value_problem(flag.group, _dest(flag), value):
                return f"{label}: {option}={value!r}: {invalid_values.describe_problem(problem)}."
    return ""


def refused_flags(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> list[str]:
    """One sentence for each parsed flag that the server refuses, with the reason. An abbreviation counts too."""
    flags = flags_of(parser)
    values = {name: getattr(parsed, _dest(flag), None) for name, flag in flags.items()}
    defaults = {name: parser.get_default(_dest(flag)) for name, flag in flags.items()}
    return env_to_flags.refused_options(values, defaults)


def dictionary_error(label: str, group: str, value: Mapping[str, object]) -> str:
    """The error of the configuration class `group` for a JSON object that the parser does not check; "" for none."""
    keys = vllm_compat.config_keys(group)
    for key, item in value.items():
        if keys and key not in keys:
            return f"{label}: {key} is not known.{suggest(key, keys)}"
        if problem := vllm_compat.value_problem(group, key, item):
            return f"{label}: {key}: {invalid_values.describe_problem(problem)}."
    return ""


def combination_errors(parsed: argparse.Namespace) -> list[str]:
    """The errors of flags that are each right but cannot be combined, and of names that vLLM does not know."""
    errors = [
        f"{name} needs {needed}."
        for name, needed in variable_names.NEEDS.items()
        if getattr(parsed, name.lower(), None) and not getattr(parsed, needed.partition("=")[0].lower(), None)
    ]
    for name, plugin in variable_names.REGISTERED.items():
        value = getattr(parsed, name.lower(), None)
        if not value or (plugin and getattr(parsed, plugin.lower(), None)):
            continue
        known = vllm_compat.registered(name)
        if known and value not in known:
            errors.append(invalid_values.not_among(name, value, known))
    if not errors and (problem := vllm_compat.problem_between(parsed)):
        label = f"CUSTOM_CHAT_TEMPLATE={parsed.chat_template!r}: " if "chat template" in problem else ""
        errors.append(f"{label}{problem.rstrip('.')}.")
    return errors


def plugins(requested: str | None, installed: list[str]) -> str:
    """VLLM_PLUGINS with our plugin. If unset, vLLM would load every plugin except those that add routes."""
    chosen = installed if requested is None else [name for name in requested.split(",") if name]
    return ",".join(dict.fromkeys([*chosen, PLUGIN]))


def cpu_defaults(parsed: argparse.Namespace, env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Arguments (of the lowest precedence) and variables that make vLLM start fast and use little memory on a CPU.

    Without dynamo, the first request for logprobs does not compile for 20 s. A worker in the engine's process saves a
    further process that imports torch. With SmolLM2-135M on two cores the server is ready after 20 s instead of 35 s.
    """
    arguments = ["--enforce-eager"]
    variables = {"TORCHDYNAMO_DISABLE": "1"}
    if parsed.kv_cache_memory_bytes is None and not env.get("VLLM_CPU_KVCACHE_SPACE"):
        arguments.append("--kv-cache-memory-bytes=1G")
    processes = parsed.tensor_parallel_size * parsed.pipeline_parallel_size * parsed.data_parallel_size
    if processes == 1 and parsed.distributed_executor_backend is None:
        arguments.append("--distributed-executor-backend=uni")
        variables["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return arguments, {name: value for name, value in variables.items() if not env.get(name)}


def may_fork(parsed: argparse.Namespace, env: Mapping[str, str]) -> bool:
    """Whether an engine on the CPU can be a fork of the server: it has one process, and the user set no start method.

    On a GPU it cannot: CUDA does not survive a fork, and vLLM spawns the engine once CUDA is initialized.
    """
    processes = parsed.tensor_parallel_size * parsed.pipeline_parallel_size * parsed.data_parallel_size
    return bool(processes == 1 and not getattr(parsed, "numa_bind", False) and not env.get(vllm_compat.START_METHOD))


def _value_of(flag: Flag, arguments: list[str]) -> str:
    """The last value that `arguments` give to `flag`."""
    value = ""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        option, _, attached = argument.partition("=")
        if option.replace("_", "-") == flag.option:
            value = attached or following
    return value


def _dest(flag: Flag) -> str:
    return flag.option.removeprefix("--").replace("-", "_")
