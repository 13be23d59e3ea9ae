"""Measures how much memory and CPU endpoints at zero cost the operator and the gateway: `python -m bench.asleep`."""

import argparse
import asyncio
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.scale.client import Client, connect, for_each
from bench.scale.measures import memory_mb, processor_seconds, read_metrics
from bench.scale.objects import ENDPOINTS
from bench.scale.rounds import all_become
from cluster.pins import ROOT
from cluster.tools import host_tools
from tests.endpoints import endpoint
from tests.integration.canned_pod import own_address
from tests.integration.control_plane import free_ports, start_control_plane
from tests.integration.gateway_process import running_gateway, stand_by
from tests.integration.operator_process import give_access, running_operator
from tests.kubectl import Kubectl, Manifest, condition, wait_for

CRD = ROOT / "crds/inferenceendpoints.forebay.dev.yaml"
PARALLEL_CREATES = 8
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"
SPAN = 10
"""Seconds. In this time an idle operator reconciles at most this many endpoints: its resync reconciles one endpoint
every two seconds."""

ANOTHER = "192.0.2.1"
"""The address of a second gateway, which gets no requests that matter."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.asleep", description=__doc__)
    parser.add_argument("--endpoints", type=int, default=1000, help="number of endpoints (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=120, help="seconds at zero (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, standing(Path(name)) as (home, port, *pids):
        began = [memory_mb(pid, peak=False) for pid in pids]
        asyncio.run(make(home, arguments.endpoints))
        wait_for(lambda: count_idle(home) == arguments.endpoints, "all endpoints are idle", timeout=600, interval=2)
        wait_for(
            lambda: count_files(pids[1]) >= arguments.endpoints,
            "the gateway listens on the ports of all endpoints",
            timeout=120,
        )
        await_rest(port)
        used = [processor_seconds(pid) for pid in pids]
        time.sleep(arguments.seconds)
        print(f"{arguments.endpoints} endpoints at zero, for {arguments.seconds:g} s\n")
        print(f"| | MB before | MB after | kB an endpoint | CPU, % of a core |\n|{'---|' * 5}")
        for role, pid, before, cpu in zip(("operator", "gateway"), pids, began, used, strict=True):
            share, after = (processor_seconds(pid) - cpu) / arguments.seconds, memory_mb(pid)
            grown = (after - before) * 1000 / arguments.endpoints
            print(f"| {role} | {before:.0f} | {after:.0f} | {grown:.1f} | {share * 100:.2f} |")
        seconds = asyncio.run(add_gateway(home, arguments.endpoints))
        print(f"\nAnother gateway, until all slices list it: {seconds:.1f} s")


@contextmanager
def standing(folder: Path) -> Iterator[tuple[Kubectl, int, int, int]]:
    """A control plane with an operator and a gateway: an administrator's access, the port with the metrics of the
    operator, which has started to work, and their processes."""
    with ExitStack() as stack:
        home = stack.enter_context(start_control_plane(host_tools(), folder, CRD)).kubectl.within("home")
        home.run("create", "namespace", "home")
        access = give_access(home, folder / "operator.kubeconfig", "system")
        gateway = stack.enter_context(
            running_gateway(home, "system", folder / "gateway", digest_key=None, ops_host=own_address())
        )
        stand_by(home.within("system"), own_address())
        named = "--namespace=system", "--gateway-service=forebay-gateway", f"--ops-port={gateway.ops_port}"
        options = *named, "--resync-interval=300"
        (port,) = free_ports(1)
        operator = stack.enter_context(running_operator(access, folder / "operator", *options, port=port))
        wait_for(lambda: works(port), "the operator is leading")
        yield home, port, operator.pid, gateway.process.pid


def works(port: int) -> bool:
    """Whether the operator leads."""
    try:
        return "forebay_leader 1.0" in read_metrics(port)
    except OSError:
        return False


def await_rest(port: int) -> None:
    """Wait until the operator has nothing to do but its rounds: Kubernetes' controllers write for minutes after the
    last endpoint is idle (the state of a thousand disruption budgets), and each of these is a reason to look."""
    reconciled = count_reconciles(port)
    while True:
        time.sleep(SPAN)
        before, reconciled = reconciled, count_reconciles(port)
        if reconciled - before <= SPAN:
            return


def count_reconciles(port: int) -> float:
    """The number of reconciles that the operator has done."""
    return sum(map(float, re.findall(r"^forebay_reconcile_duration_seconds_count\S* (\S+)$", read_metrics(port), re.M)))


async def make(home: Kubectl, count: int) -> None:
    """Make endpoints at zero."""
    path = ENDPOINTS.format(home.namespace)

    async def one(number: int, client: Client) -> None:
        await client.request("POST", path, endpoint(f"endpoint-{number}", replicas=0, scaling={}))

    async with connect(home) as client:
        await for_each(range(count), lambda number: one(number, client), PARALLEL_CREATES)


async def add_gateway(home: Kubectl, count: int) -> float:
    """Seconds from the addition of a gateway until the slices of all endpoints list this gateway."""
    async with connect(home) as client:
        began = time.monotonic()
        async with all_become(client, SLICES, lists_two, count, home.namespace):
            await asyncio.to_thread(stand_by, home.within("system"), own_address(), ANOTHER)
        return time.monotonic() - began


def lists_two(endpoint_slice: Manifest) -> bool:
    return len(endpoint_slice.get("endpoints") or ()) == 2


def count_files(pid: int) -> int:
    """The number of files and sockets that a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def count_idle(home: Kubectl) -> int:
    return sum(condition(each, "Ready").get("reason") == "Idle" for each in home.list("iep"))


if __name__ == "__main__":
    main()
