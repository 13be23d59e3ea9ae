"""The only module that imports what moves between vLLM's versions. Seen working with 0.32 and 0.33."""
# ruff: noqa: PLC0415 - importing this module must not import vLLM, which takes seconds

import argparse
import sys
from importlib.metadata import entry_points
from typing import NoReturn


class UsageError(Exception):
    """vLLM's parser refused an argument; the message is the parser's."""


def serve_parser() -> argparse.ArgumentParser:
    """The parser of `vllm serve`, that raises UsageError where it would end the process."""
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    try:  # 0.33
        from vllm.entrypoints.common.cli_args import make_arg_parser
    except ImportError:  # 0.32
        from vllm.entrypoints.launchers.cli_args import make_arg_parser

    class RaisingParser(FlexibleArgumentParser):  # type: ignore[misc]
        def error(self, message: str) -> NoReturn:
            raise UsageError(message)

    parser: argparse.ArgumentParser = make_arg_parser(RaisingParser(prog="vllm serve"))
    return parser


def config_file_arguments(parser: argparse.ArgumentParser, path: str) -> list[str]:
    """The arguments that vLLM reads from a --config file. Raises UsageError."""
    try:
        arguments: list[str] = parser.load_config_file(path)  # type: ignore[attr-defined]
    except Exception as error:  # whatever yaml and the file system raise: it is the file that is wrong
        raise UsageError(str(error)) from error
    return arguments


def environment_variables() -> frozenset[str]:
    """The names of vLLM's own environment variables (VLLM_LOGGING_LEVEL, …)."""
    import vllm.envs

    return frozenset(vllm.envs.environment_variables)


def is_cpu() -> bool:
    """Whether this vLLM runs its model on the CPU."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def plugin_names() -> list[str]:
    """Every plugin of vLLM that is installed: VLLM_PLUGINS filters all groups at once."""
    groups = (group for group in entry_points().groups if group.startswith("vllm."))
    return sorted({entry.name for group in groups for entry in entry_points(group=group)})


def run(arguments: list[str]) -> None:
    """`vllm serve` with `arguments`, in this process. Returns when the server has stopped."""
    from vllm.entrypoints.cli.main import main

    sys.argv = ["vllm", "serve", *arguments]
    main()


def prometheus_metrics() -> bytes:
    """What vLLM has recorded, in Prometheus' text format."""
    from prometheus_client import generate_latest

    return bytes(generate_latest())
