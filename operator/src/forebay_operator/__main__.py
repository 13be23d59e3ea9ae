"""The operator's command line."""

import argparse
import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

import kopf

from forebay_operator.cache import Key
from forebay_operator.cluster import ApiError, Cluster
from forebay_operator.names import FIELD_MANAGER
from forebay_operator.queue import WorkQueue
from forebay_operator.reconcile import Reconciler
from forebay_operator.settings import Settings
from forebay_operator.watch import build_cache, build_kopf_settings, register

logger = logging.getLogger(__name__)

WORKERS = 4
"""Endpoints that are reconciled at once."""

HEALTH_ADDRESS = "http://0.0.0.0:8080/healthz"


def build_parser() -> argparse.ArgumentParser:
    """The arguments, each with a variable as its default, so that a Deployment can set either."""
    parser = argparse.ArgumentParser(
        prog="forebay-operator",
        description="Watch InferenceEndpoints and run a vLLM server behind an OpenAI-compatible Service for each. "
        "Runs in a cluster by its service account, or outside by KUBECONFIG.",
    )

    def add(flag: str, variable: str, default: str, text: str) -> None:
        value = os.environ.get(variable, default)
        parser.add_argument(flag, default=value, help=f"{text} (variable {variable}; now {value or 'unset'})")

    add("--gpu-image", "FOREBAY_GPU_IMAGE", "", "server image of endpoints with GPUs")
    add("--cpu-image", "FOREBAY_CPU_IMAGE", "", "server image of endpoints with gpu.count 0")
    add("--pull-policy", "FOREBAY_PULL_POLICY", "IfNotPresent", "imagePullPolicy of server and model images")
    add("--health-address", "FOREBAY_HEALTH_ADDRESS", HEALTH_ADDRESS, "where liveness is answered")
    add("--log-level", "FOREBAY_LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the operator until SIGTERM or SIGINT."""
    parser = build_parser()
    parsed = parser.parse_args(arguments)
    for flag in ("gpu_image", "cpu_image"):
        if not getattr(parsed, flag):
            parser.error(f"--{flag.replace('_', '-')} is needed: the server image to run")
    logging.basicConfig(level=parsed.log_level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLevelName(parsed.log_level)))
    asyncio.run(operate(parsed))


async def operate(parsed: argparse.Namespace) -> None:
    """Watch and reconcile until the process is told to stop."""
    queue: WorkQueue[Key] = WorkQueue()
    registry = kopf.OperatorRegistry()
    register(registry, queue)
    async with await Cluster.connect() as cluster:
        settings = Settings(
            gpu_image=parsed.gpu_image,
            cpu_image=parsed.cpu_image,
            pull_policy=parsed.pull_policy,
            kubernetes_minor=await cluster.get_minor_version(),
        )
        workers: list[asyncio.Task[None]] = []

        @kopf.on.startup(registry=registry)
        async def start(**arguments: Any) -> None:
            reconciler = Reconciler(cluster, build_cache(arguments), settings)
            workers.extend(asyncio.create_task(work(queue, reconciler)) for _ in range(WORKERS))

        @kopf.on.cleanup(registry=registry)
        async def stop(**_: Any) -> None:
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)

        await kopf.operator(
            registry=registry,
            settings=build_kopf_settings(),
            # kopf would ask for the name of the user, and the user of a container has none
            identity=FIELD_MANAGER,  # type: ignore[arg-type]
            clusterwide=True,
            liveness_endpoint=parsed.health_address,
        )


async def work(queue: WorkQueue[Key], reconciler: Reconciler) -> None:
    """Reconcile what the queue brings, for ever. No failure of one endpoint stops the others."""
    while True:
        key = await queue.get()
        done = False
        try:
            done = await reconciler.reconcile(key)
        except ApiError as error:
            logger.warning("endpoint %s/%s: %s", *key, error)
        except Exception:
            logger.exception("endpoint %s/%s: reconcile failed", *key)
        finally:
            delay = queue.done(key, failed=not done)
        if delay:
            logger.debug("endpoint %s/%s: again in %.1f s", *key, delay)


if __name__ == "__main__":
    main()
