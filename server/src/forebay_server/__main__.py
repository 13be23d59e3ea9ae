"""The command line of the inference pod: forebay-server [serve | check | flags].

The image's entry point is `serve`. People run `check`, and the generators of the docs run `flags`.
"""
# ruff: noqa: PLC0415 - vLLM takes seconds to import: the ops port and --help must not wait for it

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from forebay_server import __version__, app, failure
from forebay_server.config import baked_in, settings, variable_names
from forebay_server.config.repositories import repositories
from forebay_server.failure import EXIT_FAILURE, Failure, StartError
from forebay_server.lifecycle import diagnosis, downloads, drain, journal, startup_limit
from forebay_server.lifecycle.startup import Step
from forebay_server.lifecycle.state import ServerState
from forebay_server.serving import ops_server

if TYPE_CHECKING:
    from forebay_server.launch import Launch

DESCRIPTION = """\
Serve a language model with vLLM behind an OpenAI-compatible API, configured by environment variables.

  MODEL_NAME=Qwen/Qwen3-0.6B FOREBAY_AUTH=None forebay-server

Any flag of `vllm serve` can be set by its name in UPPER_CASE: MAX_MODEL_LEN=8192 is --max-model-len=8192; booleans
take true or false. VLLM_EXTRA_ARGS adds arguments as they are, VLLM_CONFIG_FILE names a YAML file of flags.
The API listens on port 8000 (/v1 and /v2/<any id>/openai/v1), probes and metrics on port 8001."""


log = logging.getLogger("forebay_server")


def main() -> None:
    """Run a command of forebay-server. Ends the process with its exit status."""
    arguments = _parser().parse_args()
    if arguments.command == "check":
        sys.exit(check(as_json=arguments.json))
    if arguments.command == "flags":
        sys.exit(print_flags(as_json=arguments.json))
    sys.exit(serve())


def serve() -> int:
    """Run the server until SIGTERM. Returns the exit status; a failed start is reported in the termination log."""
    _log_to_stderr()
    drain.stop_at_once_on_sigterm()
    env = os.environ
    model = env.get("MODEL_NAME", "").strip()
    engine = journal.begin()
    state = ServerState(steps_since_last_call=engine.new_steps)
    try:
        ops = ops_server.OpsServer(ops_server.any_address(), settings.OPS_PORT, state, _metrics)
        ops.start()
        _take_baked_in_model()
        own = settings.Settings.from_environment(env)
        if own.startup_timeout is not None:
            startup_limit.watch(
                own.startup_timeout,
                lambda: "" if state.step is Step.READY else str(state.step),
                own.termination_log,
            )
        _set_defaults(settings.cache_environment(own.base_path, env, *repositories(env)) | settings.VLLM_DEFAULTS)
        serving = app.begin(own, state)
        ops.attach_control(serving.control)

        from forebay_server import launch, vllm_compat

        with vllm_compat.quick_imports():
            plan = launch.plan(env)
            model = plan.model
            _warn((*plan.ignored, *plan.warnings))
            env.update(plan.variables)
            for name in variable_names.UNSET:
                env.pop(name, None)
            vllm_compat.import_server()
        if plan.fork_engine:
            serving.fork_engine = True
            vllm_compat.inspect_models_here()
        hub_cache = _hub_cache(env)
        _download_and_check_fit(plan, hub_cache, state)
        plan = launch.add_parsers(plan, hub_cache, automatic=own.auto_tool_call_parser)
        for note in plan.notes:
            log.info(note)
        state.reasoning_parser = plan.reasoning_parser
        state.step = Step.LOADING_WEIGHTS
        vllm_compat.run(plan.arguments)
    except (Exception, SystemExit) as error:
        if state.draining:
            return 0
        engine.new_steps()
        reason = state.failure or diagnosis.explain(error, model, engine.errors)
        if reason.exit_status == EXIT_FAILURE:
            log.exception("The start failed")
        return _fail(reason)
    except KeyboardInterrupt:  # Ctrl-C
        return 0
    if state.draining:
        return 0
    engine.new_steps()
    return _fail(state.failure or diagnosis.stopped(model, engine.errors))


def _download_and_check_fit(plan: "Launch", hub_cache: Path, state: ServerState) -> None:
    """Fetch a model of the hub. Raises StartError before the weights are fetched or loaded if the model cannot fit."""
    from forebay_server import gpus
    from forebay_server.lifecycle import memory_fit

    gpu_bytes = gpus.memory()

    def check_fit(config: Path, size: int) -> None:
        memory_fit.check(
            memory_fit.need_of(plan.model, json.loads(config.read_text("utf-8")), size, plan.parsed), gpu_bytes
        )

    if downloads.comes_from_hub(plan.model, os.environ):
        source = downloads.DownloadSource(plan.model, plan.parsed.revision, plan.parsed.load_format)
        downloads.download_model(source, hub_cache, state, check_fit)
    elif (config := Path(plan.model, "config.json")).is_file():
        check_fit(config, sum(file.stat().st_size for file in Path(plan.model).glob("*.safetensors")))


def _hub_cache(env: Mapping[str, str]) -> Path:
    return Path(env.get("HF_HUB_CACHE") or Path(env["HF_HOME"], "hub"))


def check(*, as_json: bool) -> int:
    """Print the settings that the environment results in, without starting the server. Returns the exit status."""
    from forebay_server import inspection, launch

    try:
        _take_baked_in_model()
        own = settings.Settings.from_environment(os.environ)
        plan = launch.plan(os.environ)
        caches = settings.cache_environment(own.base_path, os.environ, *repositories(os.environ))
        plan = launch.add_parsers(plan, _hub_cache({**caches, **os.environ}), automatic=own.auto_tool_call_parser)
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


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(asctime)s [%(name)s] %(message)s", "%m-%d %H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def _metrics() -> bytes:
    from forebay_server import vllm_compat

    return vllm_compat.prometheus_metrics()


def _take_baked_in_model() -> None:
    baked = baked_in.variables(baked_in.FILE)
    _warn(tuple(baked_in.replaced(os.environ, baked)))
    os.environ.update(baked)


def _set_defaults(variables: dict[str, str]) -> None:
    os.environ.update({name: value for name, value in variables.items() if not os.environ.get(name)})


def _warn(warnings: tuple[str, ...]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def _fail(reason: Failure) -> int:
    failure.report(reason, settings.termination_log(os.environ))
    return reason.exit_status


if __name__ == "__main__":
    main()
