"""Runs the server until SIGTERM: the ops port first, then the settings, the model's files, and vLLM.

`__main__` calls it. The app of this process is in `app`.
"""
# ruff: noqa: PLC0415 - vLLM takes seconds to import: the ops port must not wait for it

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from forebay_server import app, failure, vllm_compat
from forebay_server.config import baked_in, settings, variable_names, vllm_versions
from forebay_server.config.repositories import repositories
from forebay_server.failure import EXIT_FAILURE, Failure
from forebay_server.lifecycle import diagnosis, downloads, drain, journal, startup_limit
from forebay_server.lifecycle.startup import Step
from forebay_server.lifecycle.state import ServerState
from forebay_server.serving import ops_server

if TYPE_CHECKING:
    from forebay_server.launch import Launch

logger = logging.getLogger("forebay_server")


def run_server() -> int:
    """Run the server until SIGTERM. Returns the exit status; a failed start is reported in the termination log."""
    _log_to_stderr()
    drain.stop_at_once_on_sigterm()
    env = os.environ
    model = env.get("MODEL_NAME", "").strip()
    engine = journal.open_journal()
    state = ServerState(steps_since_last_call=engine.new_steps)
    try:
        ops = ops_server.OpsServer(ops_server.any_address(), settings.OPS_PORT, state, _metrics)
        ops.start()
        apply_baked_in_model()
        own = settings.Settings.from_environment(env)
        if own.startup_timeout is not None:
            startup_limit.watch(
                own.startup_timeout,
                lambda: "" if state.step is Step.READY else str(state.step),
                own.termination_log,
            )
        state.vllm_version = vllm_compat.installed_version()
        if warning := vllm_versions.check_version(state.vllm_version):
            _warn((warning,))
        _set_defaults(settings.cache_environment(own.base_path, env, *repositories(env)) | settings.VLLM_DEFAULTS)
        serving = app.create_process(own, state)
        ops.attach_control(serving.control)

        from forebay_server import launch

        with vllm_compat.quick_imports():
            plan = launch.plan(env)
            model = plan.model
            state.recognized_variables = plan.recognized
            _warn((*plan.ignored, *plan.warnings))
            env.update(plan.variables)
            for name in variable_names.UNSET:
                env.pop(name, None)
            vllm_compat.import_server()
        if plan.fork_engine:
            serving.fork_engine = True
            vllm_compat.inspect_models_here()
        hub_cache = find_hub_cache(env)
        _download_and_check_fit(plan, hub_cache, state)
        plan = launch.add_parsers(plan, hub_cache, automatic=own.auto_tool_call_parser)
        for note in plan.notes:
            logger.info(note)
        state.reasoning_parser = plan.reasoning_parser
        state.step = Step.LOADING_WEIGHTS
        vllm_compat.run(plan.arguments)
    except (Exception, SystemExit) as error:
        if state.draining:
            return 0
        engine.new_steps()
        reason = state.failure or diagnosis.explain(error, model, engine.errors)
        if reason.exit_status == EXIT_FAILURE:
            logger.exception("The start failed")
        return _fail(reason)
    except KeyboardInterrupt:  # Ctrl-C
        return 0
    if state.draining:
        return 0
    engine.new_steps()
    return _fail(state.failure or diagnosis.stopped(model, engine.errors))


def apply_baked_in_model() -> None:
    """Set the variables of the model that is a part of the image, if there is one. They replace those of the user."""
    baked = baked_in.variables(baked_in.FILE)
    _warn(tuple(baked_in.replaced(os.environ, baked)))
    os.environ.update(baked)


def find_hub_cache(env: Mapping[str, str]) -> Path:
    """The folder in which huggingface_hub keeps downloaded models, by its own variables."""
    return Path(env.get("HF_HUB_CACHE") or Path(env["HF_HOME"], "hub"))


def _download_and_check_fit(plan: "Launch", hub_cache: Path, state: ServerState) -> None:
    """Fetch a model of the hub. Raises StartError before the weights are fetched or loaded if the model cannot fit."""
    from forebay_server import gpus
    from forebay_server.lifecycle import memory_fit

    gpu_bytes = gpus.memory()

    def check_fit(config: Path, size: int) -> None:
        memory_fit.check_memory(
            memory_fit.need_of(plan.model, json.loads(config.read_text("utf-8")), size, plan.parsed), gpu_bytes
        )

    if downloads.comes_from_hub(plan.model, os.environ):
        source = downloads.DownloadSource(plan.model, plan.parsed.revision, plan.parsed.load_format)
        downloads.download_model(source, hub_cache, state, check_fit)
    elif (config := Path(plan.model, "config.json")).is_file():
        check_fit(config, sum(file.stat().st_size for file in Path(plan.model).glob("*.safetensors")))


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(asctime)s [%(name)s] %(message)s", "%m-%d %H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _metrics() -> bytes:
    return vllm_compat.prometheus_metrics()


def _set_defaults(variables: dict[str, str]) -> None:
    os.environ.update({name: value for name, value in variables.items() if not os.environ.get(name)})


def _warn(warnings: tuple[str, ...]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def _fail(reason: Failure) -> int:
    failure.write_failure(reason, settings.termination_log(os.environ))
    return reason.exit_status
