"""The operator's command line."""

import argparse
import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

import kopf

from forebay_operator.cache import Key
from forebay_operator.cluster import Cluster
from forebay_operator.names import FIELD_MANAGER
from forebay_operator.queue import WorkQueue
from forebay_operator.reconcile import Reconciler
from forebay_operator.settings import Settings
from forebay_operator.watch import build_cache, build_kopf_settings, register
from forebay_operator.workers import RESYNC_INTERVAL, WORKERS, resync, work

HEALTH_ADDRESS = "http://0.0.0.0:8080/healthz"


def build_parser() -> argparse.ArgumentParser:
    """The arguments, each with a variable as its default, so that a Deployment can set either."""
    parser = argparse.ArgumentParser(
        prog="forebay-operator",
        description="Watch InferenceEndpoints and run a vLLM server behind an OpenAI-compatible Service for each. "
        "Runs in a cluster by its service account, or outside by KUBECONFIG.",
    )

    def add(flag: str, variable: str, default: str, text: str, **options: Any) -> None:
        value = os.environ.get(variable, default)
        parser.add_argument(
            flag, default=value, help=f"{text} (variable {variable}; now {value or 'unset'})", **options
        )

    levels, policies = ("DEBUG", "INFO", "WARNING", "ERROR"), ("Always", "IfNotPresent", "Never")
    add("--gpu-image", "FOREBAY_GPU_IMAGE", "", "server image of endpoints with GPUs")
    add("--cpu-image", "FOREBAY_CPU_IMAGE", "", "server image of endpoints with gpu.count 0")
    pulls = "imagePullPolicy of server and model images"
    add("--pull-policy", "FOREBAY_PULL_POLICY", "IfNotPresent", pulls, choices=policies)
    add("--health-address", "FOREBAY_HEALTH_ADDRESS", HEALTH_ADDRESS, "where liveness is answered")
    rounds = "seconds in which every endpoint is checked once against the API server itself"
    add("--resync-interval", "FOREBAY_RESYNC_INTERVAL", f"{RESYNC_INTERVAL:g}", rounds, type=float)
    add("--log-level", "FOREBAY_LOG_LEVEL", "INFO", "how much is logged", type=str.upper, choices=levels)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the operator until SIGTERM or SIGINT."""
    parsed = build_parser().parse_args(arguments)
    logging.basicConfig(level=parsed.log_level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLevelName(parsed.log_level)))
    asyncio.run(operate(parsed))


async def operate(parsed: argparse.Namespace) -> None:
    """Watch and reconcile until the process is told to stop.

    Raises:
        SystemExit: the CRD is not installed. kopf looks for it only once, so the operator must start anew when it is.
    """
    queue: WorkQueue[Key] = WorkQueue()
    registry = kopf.OperatorRegistry()
    register(registry, queue)
    async with await Cluster.connect() as cluster:
        if not await cluster.serves_endpoints():
            raise SystemExit("the InferenceEndpoint CRD is not installed: kubectl apply -f crds/, or crds.install=true")
        settings = Settings(
            gpu_image=parsed.gpu_image,
            cpu_image=parsed.cpu_image,
            pull_policy=parsed.pull_policy,
            kubernetes_minor=await cluster.get_minor_version(),
        )
        tasks: list[asyncio.Task[None]] = []

        @kopf.on.startup(registry=registry)
        async def start(**arguments: Any) -> None:
            cache, unsure = build_cache(arguments), set[Key]()
            reconciler = Reconciler(cluster, cache, settings)
            tasks.extend(asyncio.create_task(work(queue, reconciler, unsure)) for _ in range(WORKERS))
            tasks.append(asyncio.create_task(resync(queue, cache, unsure, parsed.resync_interval)))

        @kopf.on.cleanup(registry=registry)
        async def stop(**_: Any) -> None:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

        await kopf.operator(
            registry=registry,
            settings=build_kopf_settings(),
            # kopf would ask for the name of the user, and the user of a container has none
            identity=FIELD_MANAGER,  # type: ignore[arg-type]
            clusterwide=True,
            liveness_endpoint=parsed.health_address,
        )


if __name__ == "__main__":
    main()
