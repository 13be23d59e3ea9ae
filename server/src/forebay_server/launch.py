"""From the environment to the arguments that vLLM is started with, checked by vLLM's own parser."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field

from forebay_server import environment, names, settings, vllm_compat
from forebay_server.environment import Resolution
from forebay_server.failure import invalid_configuration
from forebay_server.flags import Flag, flags_of
from forebay_server.ops import any_address
from forebay_server.process import MIDDLEWARE, PLUGIN


@dataclass(frozen=True)
class Launch:
    """How vLLM is run."""

    model: str
    arguments: list[str]
    """Of `vllm serve`, the model first."""
    given: argparse.Namespace = field(default_factory=argparse.Namespace)
    """The same as vLLM's parser reads them, without the defaults for a CPU."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables to set for vLLM."""
    ignored: tuple[str, ...] = ()
    """What is set and has no effect, a sentence each."""
    warnings: tuple[str, ...] = ()


def plan(env: Mapping[str, str]) -> Launch:
    """Raises StartError (InvalidConfiguration) naming the variable that is wrong. Imports vLLM, which takes seconds."""
    parser = vllm_compat.serve_parser()
    flags = flags_of(parser)
    resolution = resolve(env, parser, flags)
    if resolution.errors:
        raise invalid_configuration(" ".join(resolution.errors), "Correct spec.env of the endpoint.")
    given = parse(parser, resolution)
    values = {name: getattr(given, _dest(flag), None) for name, flag in flags.items()}
    defaults = {name: parser.get_default(_dest(flag)) for name, flag in flags.items()}
    if refused := environment.refused_options(values, defaults):
        remedy = f"Remove it from {names.EXTRA_ARGUMENTS} or from the file that {names.CONFIG_FILE} names."
        raise invalid_configuration(" ".join(refused), remedy)
    arguments: list[str] = []
    variables = {"VLLM_PLUGINS": plugins(env.get("VLLM_PLUGINS"), vllm_compat.plugin_names())}
    if vllm_compat.is_cpu():
        arguments, cpu_variables = cpu_defaults(given, env)
        variables |= cpu_variables
    own = ["--host", any_address(), "--port", str(settings.HTTP_PORT), "--api-server-count", "1"]
    own += ["--middleware", MIDDLEWARE]
    return Launch(
        model=resolution.model,
        arguments=[resolution.model, *arguments, *resolution.arguments, *own],
        given=given,
        variables=variables,
        ignored=tuple(resolution.ignored),
        warnings=tuple(resolution.warnings),
    )


def resolve(env: Mapping[str, str], parser: argparse.ArgumentParser, flags: Mapping[str, Flag]) -> Resolution:
    """environment.resolve with this vLLM's names. Raises StartError for a config file that cannot be read."""
    try:
        return environment.resolve(
            env,
            flags,
            vllm_compat.environment_variables(),
            settings.DESCRIPTIONS,
            lambda path: vllm_compat.config_file_arguments(parser, path),
        )
    except vllm_compat.UsageError as error:
        raise invalid_configuration(
            f"{names.CONFIG_FILE}: {error}", f"Correct {names.CONFIG_FILE}: it names a YAML file of vLLM's flags."
        ) from error


def parse(parser: argparse.ArgumentParser, resolution: Resolution) -> argparse.Namespace:
    """What vLLM's parser makes of the arguments. Raises StartError naming the variable with the wrong value."""
    try:
        given = parser.parse_args([f"--model={resolution.model}", *resolution.arguments])
    except vllm_compat.UsageError as error:
        message = str(error)
        sources = [source for option, source in resolution.sources.items() if f"argument {option}" in message]
        source = sources[0] if sources else names.EXTRA_ARGUMENTS
        raise invalid_configuration(f"{source}: {message}", "Correct spec.env of the endpoint.") from error
    if given.model_tag is not None:
        raise invalid_configuration(
            f"{names.EXTRA_ARGUMENTS}: {given.model_tag!r} belongs to no flag.",
            f"Name the model by MODEL_NAME; {names.EXTRA_ARGUMENTS} takes flags only.",
        )
    return given


def plugins(wanted: str | None, installed: list[str]) -> str:
    """VLLM_PLUGINS with ours in it. Not set, it would mean every plugin but those that add routes."""
    chosen = installed if wanted is None else [name for name in wanted.split(",") if name]
    return ",".join(dict.fromkeys([*chosen, PLUGIN]))


def cpu_defaults(given: argparse.Namespace, env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Arguments (of the lowest precedence) and variables that make vLLM start fast and stay small on a CPU.

    Without dynamo the first request for logprobs does not compile for 20 s; a worker within the engine's process
    saves one more process with an import of torch. Measured with SmolLM2-135M on two cores: 35 s to ready become 20.
    """
    arguments = ["--enforce-eager"]
    variables = {"TORCHDYNAMO_DISABLE": "1"}
    if given.kv_cache_memory_bytes is None and not env.get("VLLM_CPU_KVCACHE_SPACE"):
        arguments.append("--kv-cache-memory-bytes=1G")
    processes = given.tensor_parallel_size * given.pipeline_parallel_size * given.data_parallel_size
    if processes == 1 and given.distributed_executor_backend is None:
        arguments.append("--distributed-executor-backend=uni")
        variables["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return arguments, {name: value for name, value in variables.items() if not env.get(name)}


def _dest(flag: Flag) -> str:
    return flag.option.removeprefix("--").replace("-", "_")
