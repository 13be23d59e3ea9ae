"""The command line of the inference pod: forebay-server [serve | check | flags].

The image's entry point is `serve`. People run `check`, and the generators of the docs run `flags`.
"""
# ruff: noqa: PLC0415 - vLLM takes seconds to import: serve and --help must not wait for it

import argparse
import os
import sys

from forebay_server import __version__
from forebay_server.config import settings
from forebay_server.config.repositories import repositories
from forebay_server.failure import StartError
from forebay_server.run import apply_baked_in_model, find_hub_cache, run_server

DESCRIPTION = """\
Serve a language model with vLLM behind an OpenAI-compatible API, configured by environment variables.

  MODEL_NAME=Qwen/Qwen3-0.6B FOREBAY_AUTH=None forebay-server

Any flag of `vllm serve` can be set by its name in UPPER_CASE: MAX_MODEL_LEN=8192 is --max-model-len=8192; booleans
take true or false. VLLM_EXTRA_ARGS adds arguments as they are, VLLM_CONFIG_FILE names a YAML file of flags.
The API listens on port 8000 (/v1 and /v2/<any id>/openai/v1), probes and metrics on port 8001."""


def main() -> None:
    """Run a command of forebay-server. Ends the process with its exit status."""
    arguments = _parser().parse_args()
    if arguments.command == "check":
        sys.exit(print_settings(as_json=arguments.json))
    if arguments.command == "flags":
        sys.exit(print_flags(as_json=arguments.json))
    sys.exit(run_server())


def print_settings(*, as_json: bool) -> int:
    """Print the settings that the environment results in, without starting the server. Returns the exit status."""
    from forebay_server import inspection, launch

    try:
        apply_baked_in_model()
        own = settings.Settings.from_environment(os.environ)
        plan = launch.plan(os.environ)
        caches = settings.cache_environment(own.base_path, os.environ, *repositories(os.environ))
        plan = launch.add_parsers(plan, find_hub_cache({**caches, **os.environ}), automatic=own.auto_tool_call_parser)
    except StartError as error:
        print(inspection.refused(error.failure, as_json=as_json), file=sys.stdout if as_json else sys.stderr)
        return error.failure.exit_status
    print(inspection.checked(plan, as_json=as_json))
    return 0


def print_flags(*, as_json: bool) -> int:
    """Print every variable that can be set. Returns the exit status."""
    from forebay_server import inspection, vllm_compat
    from forebay_server.config import catalogue
    from forebay_server.config.vllm_flags import flags_of

    entries = catalogue.catalogue(flags_of(vllm_compat.serve_parser()), vllm_compat.environment_variables())
    print(inspection.listed(entries, as_json=as_json))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="forebay-server", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"forebay-server {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="serve the model until SIGTERM (the default)")
    check = commands.add_parser("check", help="print the `vllm serve` command for this environment, and exit")
    check.add_argument("--json", action="store_true", help="for programs")
    flags = commands.add_parser("flags", help="list every environment variable that can be set")
    flags.add_argument("--json", action="store_true", help="with types and defaults, for programs")
    return parser


if __name__ == "__main__":
    main()
