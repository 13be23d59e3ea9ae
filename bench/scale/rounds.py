"""One size, measured: what a bare client needs, what the operator needs, and what that does with nothing to do."""

import asyncio
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, fields, replace
from functools import reduce
from itertools import pairwise
from pathlib import Path

from aiohttp import web

from bench.scale import measures, objects
from bench.scale.client import Client, connect, for_each
from bench.scale.measures import Requests
from bench.scale.plane import POD_ADDRESS, Plane
from forebay_operator.controller.rate_limiter import KEY_INTERVAL
from forebay_operator.controller.workers import WORKERS
from forebay_protocol.pod import OPS_PORT
from tests.integration.control_plane import free_ports, running
from tests.kubectl import Kubectl, Manifest, wait_for

BARE, OPERATED = "bare", "operated"
"""The namespaces of the two; the operator watches only its own."""

TURNS = 6
"""Bare client and operator take turns, each with a part of the endpoints: every object costs Kubernetes more than those
before it, which must not count against either. They take turns at starting as well."""

TIMEOUT = 1800
QUIET = 0.1
"""Cores that a control plane may use, over two seconds, and count as quiet: its nodes' heartbeats remain."""

SILENCE = 3
"""Seconds without a write after which no write follows."""


@dataclass(frozen=True)
class Phase:
    """The measurements of a part of a round.

    Attributes:
        seconds: how long it took.
        operator: processor seconds of the operator.
        plane: processor seconds of the control plane, scheduler and kwok included.
        rest: processor seconds of all else on this machine, the client that applies and waits included.
        requests: the requests of the operator, counted in the audit log.
    """

    seconds: float
    operator: float
    plane: float
    rest: float
    requests: Requests


@dataclass(frozen=True)
class Round:
    """The figures of one size.

    Attributes:
        bare: a bare client applies endpoints and children, until all Deployments are available; all turns together.
        apply: endpoints are applied, until all are Ready; all turns.
        trailing: after `apply`, the time until nothing is written any more. Durations of starts, and events, are
            throttled; all turns.
        update: every spec is changed, until all are Ready as they are now.
        settle: after `update`, the time until nothing is written any more.
        idle: nothing happens.
        restart: the time from the start of the process until its first pass is over, with nothing to do.
        after_restart: the requests of the operator during `restart`.
        memory: MB that were resident when idle, after the restart, and the most before it.
    """

    endpoints: int
    bare: Phase
    apply: Phase
    trailing: Phase
    update: Phase
    settle: Phase
    idle: Phase
    restart: Phase
    after_restart: Phase
    memory: tuple[float, float, float]


class OperatorProcess:
    """The operator as a separate process."""

    def __init__(self, kubectl: Kubectl, log: Path) -> None:
        self.port = free_ports(1)[0]
        self._kubectl = kubectl
        self._log = log

    @contextmanager
    def run(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start it, wait until it has read every endpoint, and end it with the context."""
        command = [
            sys.executable, "-m", "forebay_operator", "--gpu-image", objects.GPU_IMAGE,
            "--overlay-image", objects.OVERLAY_IMAGE, "--namespace", "forebay-system",
            "--health-address", f"127.0.0.1:{self.port}", "--watch-namespaces", OPERATED, "--log-level", "WARNING",
        ]  # fmt: skip
        with running(self._log, *command, env=self._kubectl.environment()) as process:
            wait_for(lambda: self._leads(process), "the operator has read every endpoint", TIMEOUT, interval=0.02)
            yield process

    def _leads(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, f"the operator ended:\n{self._log.read_text()[-2000:]}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=10) as answer:
                return bool(answer.read() == b"leading\n")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def written(self) -> Requests:
        """The number of its writes, by its own metrics."""
        return measures.counted_writes(measures.read_metrics(self.port))


class Meter:
    """Measures phases."""

    def __init__(self, plane: Plane) -> None:
        self._audit = plane.audit
        self._place = 0

    def begin(self, operator: int | None) -> Callable[[], Phase]:
        """Begin a phase; call what is returned at its end. `operator` is its process."""
        self._place = measures.read_audit(self._audit, self._place)[1]
        others = [pid for pid in measures.children().values() if pid != operator]
        cpu = sum(map(measures.processor_seconds, others))
        own = measures.processor_seconds(operator) if operator else 0.0
        whole = measures.machine_seconds()
        began = time.monotonic()

        def end() -> Phase:
            seconds = time.monotonic() - began
            used = measures.processor_seconds(operator) - own if operator else 0.0
            of_plane = sum(map(measures.processor_seconds, others)) - cpu
            rest = measures.machine_seconds() - whole - used - of_plane
            requests, self._place = measures.read_audit(self._audit, self._place)
            return Phase(seconds, used, of_plane, rest, requests)

        return end


async def measure(plane: Plane, folder: Path, endpoints: int, idle: float, short: bool = False) -> Round:
    """Measure one size on its own control plane, with an idle time of `idle` seconds.

    The `short` form omits the pauses that only times need.
    """
    for namespace in (BARE, OPERATED):
        plane.admin.run("create", "namespace", namespace)
    meter = Meter(plane)
    operator = OperatorProcess(plane.operator, folder / "operator.log")
    wanted = [objects.build_endpoint(OPERATED, number) for number in range(endpoints)]
    async with connect(plane.admin) as admin, connect(plane.operator) as bare, answer_for_pods():
        with operator.run() as process:

            async def take_bare_turn(first: int, last: int) -> dict[str, Phase]:
                await wait_until_quiet(short)
                end = meter.begin(None)
                await apply_bare(admin, bare, range(first, last))
                return {"bare": end()}

            async def take_operators_turn(first: int, last: int) -> dict[str, Phase]:
                await wait_until_quiet(short)
                end = meter.begin(process.pid)
                async with all_become(admin, objects.ENDPOINTS, objects.is_ready, last - first):
                    await for_each(wanted[first:last], lambda each: create(admin, each), WORKERS)
                phases = {"apply": end()}
                end = meter.begin(process.pid)
                await wait_until_written(operator)
                return phases | {"trailing": end()}

            turns: list[dict[str, Phase]] = []
            count = 1 if short else TURNS
            for number, (first, last) in enumerate(pairwise(endpoints * each // count for each in range(count + 1))):
                both = take_bare_turn, take_operators_turn
                for take in both if number % 2 == 0 else both[::-1]:
                    turns.append(await take(first, last))
            bare_applied, applied, trailing = (
                reduce(add, [turn[name] for turn in turns if name in turn]) for name in ("bare", "apply", "trailing")
            )
            await wait_until_quiet(short)
            end = meter.begin(process.pid)
            async with all_become(admin, objects.ENDPOINTS, objects.is_ready, endpoints):
                await for_each(wanted, lambda each: change(admin, each), WORKERS)
            updated = end()
            end = meter.begin(process.pid)
            await wait_until_written(operator)
            quiet = end()
            phases = applied, trailing, updated, quiet
            assert operator.written() == sum((measures.writes(each.requests) for each in phases), measures.Requests())
            end = meter.begin(process.pid)
            await asyncio.sleep(idle)
            idled = end()
            memory = measures.memory_mb(process.pid), measures.memory_mb(process.pid, peak=True)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        end = meter.begin(None)
        with operator.run() as process:
            began = end()
            restarted = replace(began, operator=measures.processor_seconds(process.pid))
            end = meter.begin(process.pid)
            await asyncio.sleep(SILENCE)
            after = end()
            resident = memory[0], measures.memory_mb(process.pid), memory[1]
    return Round(endpoints, bare_applied, applied, trailing, updated, quiet, idled, restarted, after, resident)


def add(one: Phase, other: Phase) -> Phase:
    """Two parts of a phase as one."""
    sums = (getattr(one, each.name) + getattr(other, each.name) for each in fields(Phase))
    return Phase(*sums)


async def apply_bare(admin: Client, bare: Client, numbers: range) -> None:
    """Apply what the operator would, until all Deployments are available."""
    wanted = [objects.build_endpoint(BARE, number) for number in numbers]
    things = [(endpoint, objects.build_children(endpoint)) for endpoint in wanted]

    async def apply(thing: tuple[Manifest, Sequence[Manifest]]) -> None:
        uid = (await create(admin, thing[0]))["metadata"]["uid"]
        for child in thing[1]:
            child["metadata"]["ownerReferences"][0]["uid"] = uid
            await create(bare, child)

    async with all_become(admin, objects.DEPLOYMENTS, objects.is_available, len(numbers), BARE):
        await for_each(things, apply, WORKERS)


async def create(client: Client, manifest: Manifest) -> Manifest:
    """Create an object; returns it as the API server keeps it."""
    path = objects.COLLECTIONS.get(manifest["kind"], objects.ENDPOINTS).format(manifest["metadata"]["namespace"])
    created: Manifest = await client.request("POST", path, manifest)
    return created


async def change(client: Client, manifest: Manifest) -> None:
    """Change the spec of an endpoint that is there, so that it gets new pods."""
    path = objects.ENDPOINTS.format(manifest["metadata"]["namespace"]) + "/" + manifest["metadata"]["name"]
    await client.request("PATCH", path, objects.CHANGE, "application/merge-patch+json")


@asynccontextmanager
async def all_become(
    client: Client, collection: str, state: Callable[[Manifest], bool], count: int, namespace: str = OPERATED
) -> AsyncIterator[None]:
    """Run the body, and wait until `count` objects of a collection were in a state at the same time.

    Existing objects count only after they change.
    """
    known: set[str] = set()
    path = collection.format(namespace)
    version = await client.find_version(path)

    async def count_changes() -> None:
        async for thing in client.watch(path, version):
            (known.add if state(thing) else known.discard)(thing["metadata"]["name"])
            if len(known) == count:
                return

    seeing = asyncio.create_task(count_changes())
    yield
    await asyncio.wait_for(seeing, TIMEOUT)


async def wait_until_quiet(short: bool) -> None:
    """Wait until the control plane has next to nothing to do; not in the short form."""
    if short:
        return
    before = _plane_seconds()
    while await asyncio.sleep(2, True):
        now = _plane_seconds()
        if now - before < 2 * QUIET:
            return
        before = now


async def wait_until_written(operator: OperatorProcess) -> None:
    """Wait until the operator has no writes left: it delays throttled writes only for some time."""
    await asyncio.sleep(KEY_INTERVAL)
    before = operator.written()
    while await asyncio.sleep(SILENCE, True):
        now = operator.written()
        if now == before:
            return
        before = now


def _plane_seconds() -> float:
    programs = measures.children()
    return sum(measures.processor_seconds(pid) for name, pid in programs.items() if not name.startswith("python"))


@asynccontextmanager
async def answer_for_pods() -> AsyncIterator[None]:
    """Answer on the ops port, like a server that has loaded its model."""
    report = {"step": "Ready", "seconds": {"Importing": 5, "Downloading": 30, "LoadingWeights": 10, "Compiling": 20}}

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(report)

    app = web.Application()
    app.router.add_get("/startup", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, POD_ADDRESS, OPS_PORT).start()
        yield
    finally:
        await runner.cleanup()
