"""The gateway's command line."""

import argparse
import asyncio
import ctypes
import dataclasses
import gc
import logging
import math
import os
import resource
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from forebay_gateway.activator.pending_requests import Activator
from forebay_gateway.activator.readiness_probe import ReadinessProbe
from forebay_gateway.activator.scale_up import wake
from forebay_gateway.admin import serve_ops
from forebay_gateway.endpoints.balancer import Balancer
from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.key_authorizer import KeyAuthorizer
from forebay_gateway.endpoints.watch import watches
from forebay_gateway.job_services import VALKEY_URL, JobServices, open_job_services, open_valkey
from forebay_gateway.jobs.webhooks import read_networks
from forebay_gateway.listeners import Listeners
from forebay_gateway.loop_lag import watch_lag
from forebay_gateway.proxy.client_connection import ClientConnection
from forebay_gateway.proxy.handler import RequestHandler
from forebay_gateway.settings import Limits
from forebay_kube.api_client import ApiClient
from forebay_kube.endpoint_key import EndpointKey

logger = logging.getLogger(__name__)

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where a pod finds the namespace that it runs in."""

OTHER_DESCRIPTORS = 512
"""Open files for all but clients and their pods: watches, jobs, Valkey, webhooks, the ports that are listened on."""

LEAST_CONNECTIONS = 128

MOST_DESCRIPTORS = 1 << 20
"""Linux' own limit for a process, where nothing else is said (fs.nr_open)."""

M_MMAP_THRESHOLD, LARGE_PIECE = -3, 1 << 20
"""A number of glibc's malloc.h, and bytes."""

LIMITS = {
    "head_bytes": "bytes of a request's head",
    "head_seconds": "seconds in which a request's head must arrive",
    "body_bytes": "bytes of a request's body",
    "body_seconds": "seconds in which a request's body must arrive",
    "namespace_share": "part of what the others leave free of a budget that one namespace may use; 1 for one tenant",
    "connections": "clients at once",
    "unknown_connections": "clients at once that have not shown a valid key yet",
    "unknown_per_source": "the same of one address",
    "held": "requests that wait for a pod, in all",
    "held_per_endpoint": "requests that wait for a pod of one endpoint",
    "kept_bytes": "bytes in memory of bodies for pods, of answers for clients and of outputs that are not stored yet",
    "jobs_bytes": "bytes that jobs keep, inputs and outputs, in memory or in Valkey",
    "files_bytes": "bytes of files and of results of batches, in memory or in Valkey",
    "write_seconds": "seconds for a client or a pod to take anything of what is written to it",
    "hold_seconds": "seconds that a request waits for a pod",
    "patience_seconds": "seconds that a streamed request waits like any other before it gets a 200 and comments",
    "heartbeat_seconds": "seconds from one comment to the next",
    "connect_seconds": "seconds for the connection to a pod",
    "drain_seconds": "seconds that requests may go on after SIGTERM",
}
"""What settings.Limits can be set to, by flags and variables of these names."""


def build_parser() -> argparse.ArgumentParser:
    """The arguments, each with a variable as its default, so that a Deployment can set either."""
    parser = argparse.ArgumentParser(
        prog="forebay-gateway",
        description="Hold requests for sleeping InferenceEndpoints, wake these, and relay. Runs in a cluster by its "
        "service account, or outside by KUBECONFIG.",
    )

    def add(name: str, default: object, text: str, **options: Any) -> None:
        variable = f"FOREBAY_GATEWAY_{name.upper()}"
        value = os.environ.get(variable) or default
        shown = f"{text} (variable {variable}; now {value if value != '' else 'unset'})"
        parser.add_argument(f"--{name.replace('_', '-')}", default=value, help=shown, **options)

    own = NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else "default"
    add("port", 8000, "port of the one URL", type=int)
    add("ops_address", ":8001", "HOST:PORT of probes, metrics and /held")
    add("namespace", own, "the operator's namespace, where the digests of keys are")
    add("home_namespace", "default", "namespace whose endpoints have their bare name as id")
    watched = "namespaces to watch, separated by commas; none means all"
    add("watch_namespaces", "", watched, type=lambda text: [each for name in text.split(",") if (each := name.strip())])
    add("pod_ops_port", 8001, "port on which servers say whether they are ready", type=int)
    where = "where jobs are: in the memory of this one gateway, in Valkey for any number of gateways, or nowhere"
    add("jobs", "memory", where, choices=("memory", "valkey", "off"))
    proxies = "networks of proxies in front, whose addresses stand for many clients, such as 10.0.0.0/8"
    add("trusted_proxies", "", f"{proxies}, separated by commas", type=read_networks)
    inside = "networks besides the internet that webhooks may lead to, such as 10.1.0.0/16, separated by commas"
    add("webhook_networks", "", inside, type=read_networks)
    parser.epilog = (
        f"With --jobs=valkey the variable {VALKEY_URL} has its URL, such as rediss://USER:PASSWORD@HOST:6379/0."
    )
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    add("log_level", "INFO", "how much is logged", type=str.upper, choices=levels)
    for name, text in LIMITS.items():
        default = getattr(Limits, name)
        add(name, default, text, type=partial(_read_limit, name))
    return parser


def _read_limit(name: str, text: str) -> float:
    """Raises ArgumentTypeError."""
    kind = type(getattr(Limits, name))
    try:
        value: float = kind(text)
    except ValueError:
        value = math.nan
    if name == "namespace_share" and not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0 and up to 1")
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no {'whole ' if kind is int else ''}number from 0 on")
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the gateway until SIGTERM or SIGINT."""
    parsed = build_parser().parse_args(arguments)
    logging.basicConfig(level=parsed.log_level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    gc.freeze()  # what is imported stays: collections need not look at it again
    give_back_memory()
    uvloop.run(run(parsed))


async def run(parsed: argparse.Namespace) -> None:
    """Serve until the process is told to stop, then drain."""
    limits = Limits(**{field.name: getattr(parsed, field.name) for field in dataclasses.fields(Limits)})
    limits = fit_connections(limits, raise_descriptors())
    directory, keys, balancer = Directory(parsed.home_namespace), KeyAuthorizer(), Balancer()
    client = open_valkey() if parsed.jobs == "valkey" else None
    stop = ShutdownSignal()
    api = await ApiClient.connect()
    async with ReadinessProbe(parsed.pod_ops_port) as probe, AsyncExitStack() as parts:
        activator = Activator(directory, balancer, lambda key: wake(api, key), probe.find_ready, limits)
        handler = RequestHandler(directory, keys, activator, balancer, limits)
        followed = list(watches(directory, keys, parsed.namespace, parsed.watch_namespaces))

        def accept(key: EndpointKey | None) -> ClientConnection:
            return ClientConnection(handler, key)

        listeners = Listeners(accept, directory.ports)
        directory.ports_changed = listeners.change

        async def begin() -> None:
            """Once the cluster is known: before that every key would be wrong, also those of jobs that were kept."""
            for each in followed:
                await each.synced.wait()
            if parsed.jobs != "off":
                handler.jobs = await parts.enter_async_context(
                    open_job_services(
                        parsed,
                        client,
                        keys=keys,
                        directory=directory,
                        balancer=balancer,
                        activator=activator,
                        answers=handler.answers,
                        pace=handler.pace,
                    )
                )
            await listeners.open_shared(parsed.port)
            logger.info("serving on port %d", parsed.port)
            await listeners.run()

        def not_ready_because() -> str:
            if handler.draining:
                return "draining"
            return "" if all(each.synced.is_set() for each in followed) else "reading the cluster"

        async with serve_ops(parsed.ops_address, not_ready_because, activator.report, handler.rereads.names):
            tasks = [asyncio.create_task(each.run(api)) for each in followed]
            tasks += [asyncio.create_task(begin()), asyncio.create_task(watch_lag())]
            for task in tasks:
                task.add_done_callback(stop.failed)
            await stop.wait()
            handler.draining = True
            await _drain(handler, limits.drain_seconds, stop)
            await api.close()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            listeners.close()
            await _close(handler)
    if stop.error:
        raise SystemExit(f"the gateway ends, as a part of it failed: {stop.error!r}")


class ShutdownSignal:
    """SIGTERM or SIGINT, or a part that failed. A second signal ends the drain."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self._asked = asyncio.Event()
        self._again = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._signal)

    async def wait(self) -> None:
        await self._asked.wait()

    async def wait_again(self) -> None:
        await self._again.wait()

    def failed(self, task: asyncio.Task[None]) -> None:
        """To be called when a task of the gateway's own ends, which none does by itself."""
        if not task.cancelled() and (error := task.exception()):
            logger.critical("a part of the gateway failed", exc_info=error)
            self.error = error
            self._asked.set()
            self._again.set()

    def _signal(self) -> None:
        (self._again if self._asked.is_set() else self._asked).set()


def raise_descriptors() -> int:
    """Raise the soft limit of open files to the hard one, and return it: a container may begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def fit_connections(limits: Limits, descriptors: int) -> Limits:
    """The limits, with no more connections than there are descriptors for: one for the client and one for the pod.

    Raises SystemExit where that would be hardly any.
    """
    fitting = (descriptors - OTHER_DESCRIPTORS) // 2
    if fitting < LEAST_CONNECTIONS:
        raise SystemExit(
            f"a gateway needs {OTHER_DESCRIPTORS + 2 * LEAST_CONNECTIONS} open files, and may have {descriptors}: "
            "raise the limit (ulimit -n, or LimitNOFILE of the container runtime)"
        )
    if fitting >= limits.connections:
        return limits
    logger.warning("%d open files are allowed, so at most %d connections", descriptors, fitting)
    return dataclasses.replace(limits, connections=fitting)


def give_back_memory() -> None:
    """Have glibc give large pieces of memory back to the system once they are free. By itself it keeps pieces of up to
    32 MiB for the next time, behind what still is in use (mallopt(3), M_MMAP_THRESHOLD)."""
    with suppress(OSError, AttributeError):  # it is no glibc
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_PIECE)


CLOSING_SECONDS = 1.0
"""Seconds that clients have to take what was written to them before the process ends."""

CLOSING_INTERVAL = 0.01


async def _drain(handler: RequestHandler, seconds: float, stop: ShutdownSignal) -> None:
    """Let the requests and jobs that are there end; what still is there after `seconds` is told so, or put back."""
    busy = [each for each in handler.connections if each.busy]
    logger.info("shutting down: waiting up to %g s for %d requests", seconds, len(busy))
    again = asyncio.create_task(stop.wait_again())
    ends = asyncio.create_task(_end(busy, handler.jobs))
    await asyncio.wait({again, ends}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    ends.cancel()


async def _close(handler: RequestHandler) -> None:
    """Close the connections that are left. The loop may add more in its next rounds: those that were accepted just
    before the listeners closed. A client whose request is unanswered gets the error for a gateway that shuts down."""
    cancelled: set[ClientConnection] = set()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CLOSING_SECONDS
    while True:
        for each in handler.connections - cancelled:
            each.cancel()
            cancelled.add(each)
        await asyncio.sleep(CLOSING_INTERVAL)
        if not handler.connections or loop.time() > deadline:
            break
    for each in list(handler.connections):
        each.abort()
    await asyncio.sleep(0)  # an aborted connection is lost in the loop's next round


async def _end(busy: Sequence[ClientConnection], jobs: JobServices | None) -> None:
    if jobs:
        await jobs.drain()
    for each in busy:
        await each.ended()


if __name__ == "__main__":
    main()
