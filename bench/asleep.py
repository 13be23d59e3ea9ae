"""What endpoints at zero cost operator and gateway: `python -m bench.asleep`."""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.scale.client import Client, connect, for_each
from bench.scale.measures import memory_mb, processor_seconds
from bench.scale.objects import ENDPOINTS
from cluster.pins import ROOT
from cluster.tools import host_tools
from tests.endpoints import endpoint
from tests.integration.canned_pod import own_address
from tests.integration.control_plane import start_control_plane
from tests.integration.gateway_process import running_gateway, stand_by
from tests.integration.operator_process import give_access, running_operator
from tests.kubectl import Kubectl, condition, wait_for

CRD = ROOT / "crds/inferenceendpoints.forebay.dev.yaml"
AT_ONCE = 8


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.asleep", description=__doc__)
    parser.add_argument("--endpoints", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=120, help="for which they sleep (default: %(default)s)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, standing(Path(name)) as (home, *pids):
        began = [memory_mb(pid, peak=False) for pid in pids]
        asyncio.run(make(home, asked.endpoints))
        wait_for(lambda: count_idle(home) == asked.endpoints, "all endpoints are idle", timeout=600, interval=2)
        sockets = Path(f"/proc/{pids[1]}/fd")
        wait_for(
            lambda: sum(1 for _ in sockets.iterdir()) >= asked.endpoints, "the gateway listens for all", timeout=120
        )
        used = [processor_seconds(pid) for pid in pids]
        time.sleep(asked.seconds)
        print(f"{asked.endpoints} endpoints at zero, for {asked.seconds:g} s\n")
        print(f"| | MB before | MB after | kB an endpoint | CPU, % of a core |\n|{'---|' * 5}")
        for role, pid, before, cpu in zip(("operator", "gateway"), pids, began, used, strict=True):
            share, after = (processor_seconds(pid) - cpu) / asked.seconds, memory_mb(pid)
            grown = (after - before) * 1000 / asked.endpoints
            print(f"| {role} | {before:.0f} | {after:.0f} | {grown:.1f} | {share * 100:.2f} |")


@contextmanager
def standing(folder: Path) -> Iterator[tuple[Kubectl, int, int]]:
    """A control plane with an operator and a gateway: an administrator's access, and their processes."""
    with ExitStack() as stack:
        home = stack.enter_context(start_control_plane(host_tools(), folder, CRD)).kubectl.within("home")
        home.run("create", "namespace", "home")
        access = give_access(home, folder / "operator.kubeconfig", "system")
        gateway = stack.enter_context(
            running_gateway(home, "system", folder / "gateway", digest_key=None, ops_host=own_address())
        )
        stand_by(home.within("system"), own_address())
        options = "--namespace=system", "--gateway-service=forebay-gateway", f"--ops-port={gateway.ops_port}"
        operator = stack.enter_context(running_operator(access, folder / "operator", *options, "--resync-interval=300"))
        yield home, operator.pid, gateway.process.pid


async def make(home: Kubectl, count: int) -> None:
    """Make endpoints at zero."""
    path = ENDPOINTS.format(home.namespace)

    async def one(number: int, client: Client) -> None:
        await client.request("POST", path, endpoint(f"endpoint-{number}", replicas=0, scaling={}))

    async with connect(home) as client:
        await for_each(range(count), lambda number: one(number, client), AT_ONCE)


def count_files(pid: int) -> int:
    """The files and sockets that a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def count_idle(home: Kubectl) -> int:
    return sum(condition(each, "Ready").get("reason") == "Idle" for each in home.list("iep"))


if __name__ == "__main__":
    main()
