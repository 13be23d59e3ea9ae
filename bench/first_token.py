"""From a request at zero to the first token, step by step: `python -m bench.first_token`, on the e2e tests' cluster.

Run `KEEP_CLUSTER=1 make e2e` first, which leaves that cluster up with Forebay installed. A client in a pod sends one
streamed request to the Service of an endpoint at zero, and asks the pod that starts without a pause whether it is
ready; two watches see when the endpoint is scaled and the pod made, scheduled and run.
"""

import argparse
import asyncio
import json
import subprocess
import time
import uuid
from pathlib import Path
from statistics import median

import yaml

from bench.scale.client import Client, connect
from bench.scale.objects import ENDPOINTS
from cluster import kind, tools
from cluster.pins import ROOT
from tests.e2e.forebay import read_key
from tests.endpoints import reason_is
from tests.kubectl import Kubectl, Manifest, wait_for

CLIENT = Path(__file__).with_name("first_token_client.py")
NAME = "smollm2"
PODS = "/api/v1/namespaces/{}/pods"

STEPS = {
    "request sent → endpoint scaled to 1": ("sent", "scaled"),
    "→ pod made": ("scaled", "made"),
    "→ pod scheduled": ("made", "scheduled"),
    "→ container runs": ("scheduled", "running"),
    "→ server says that it is ready": ("running", "ready"),
    "→ first token": ("ready", "token"),
    "whole": ("sent", "token"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.first_token", description=__doc__)
    parser.add_argument("--cluster", default="forebay-e2e", help="the kind cluster (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="starts that are measured (default: %(default)s)")
    asked = parser.parse_args()
    admin = Kubectl(tools.host_tools() / "kubectl", kind.kubeconfig(asked.cluster))
    kubectl = admin.within(f"bench-{uuid.uuid4().hex[:6]}")
    kubectl.run("create", "namespace", kubectl.namespace)
    manifest = yaml.safe_load((ROOT / "examples/smollm2.yaml").read_text())
    manifest["spec"] |= {"replicas": 0, "scaling": {"idleTimeout": "5s", "stabilization": {"up": "2s", "down": "2s"}}}
    kubectl.apply(manifest)
    try:
        rounds = [asyncio.run(measure(kubectl)) for _ in range(asked.rounds)]
    finally:
        kubectl.run("delete", "namespace", kubectl.namespace, "--wait=false")
    print(f"{asked.rounds} starts of {NAME}; seconds\n\n| step | median | most |\n|---|---|---|")
    for step, (first, last) in STEPS.items():
        spent = [times[last] - times[first] for times in rounds]
        print(f"| {step} | {median(spent):.2f} | {max(spent):.2f} |")
    warm = median(times["warm"] for times in rounds)
    print(f"| for comparison: a request to the first token once it runs | {warm:.2f} | |")


async def measure(kubectl: Kubectl) -> dict[str, float]:
    """One start, as moments."""
    wait_for(reason_is(kubectl, "Idle", NAME), f"{NAME} is idle", timeout=180)
    wait_for(lambda: kubectl.list("pods") == [], "no pod is left", timeout=120)
    async with connect(kubectl) as client:
        times: dict[str, float] = {}
        endpoints, pods = (path.format(kubectl.namespace) for path in (ENDPOINTS, PODS))
        versions = [await client.find_version(path) for path in (endpoints, pods)]
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        watches = [
            asyncio.create_task(see_scaled(client, endpoints, versions[0], times)),
            asyncio.create_task(see_pod(client, pods, versions[1], times, address)),
        ]
        process = start_client(kubectl)
        assert process.stdin
        process.stdin.write(f"{await asyncio.wait_for(address, 120)}\n")
        printed, _ = await asyncio.to_thread(process.communicate, timeout=120)
        times |= json.loads(printed)
        await asyncio.wait_for(asyncio.gather(*watches), 10)
    again = start_client(kubectl)
    warm, _ = again.communicate(f"{address.result()}\n", timeout=60)
    found = json.loads(warm)
    return {**times, "warm": found["token"] - found["sent"]}


def start_client(kubectl: Kubectl) -> subprocess.Popen[str]:
    """The client in the pod of the e2e tests."""
    url = f"http://{NAME}.{kubectl.namespace}.svc/v1"
    program = "exec", "-i", "client", "--", "python3", "-c", CLIENT.read_text(), url, read_key(kubectl, NAME), NAME
    command = [str(kubectl.binary), "--namespace=clients", *program]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=kubectl.environment(), stdin=pipe, stdout=pipe, text=True)


async def see_scaled(client: Client, path: str, version: str, times: dict[str, float]) -> None:
    """When the endpoint asks for a replica."""
    async for endpoint in client.watch(path, version):
        if endpoint["spec"]["replicas"]:
            times["scaled"] = time.time()
            return


async def see_pod(
    client: Client, path: str, version: str, times: dict[str, float], address: "asyncio.Future[str]"
) -> None:
    """When a pod is there, has a node, and runs; its address."""
    async for pod in client.watch(path, version):
        times.setdefault("made", time.time())
        if pod["spec"].get("nodeName"):
            times.setdefault("scheduled", time.time())
        if runs(pod):
            times["running"] = time.time()
            address.set_result(pod["status"]["podIP"])
            return


def runs(pod: Manifest) -> bool:
    """Whether the server's container has been started."""
    found = pod["status"].get("containerStatuses") or ()
    return bool(found and "running" in found[0]["state"] and pod["status"].get("podIP"))


if __name__ == "__main__":
    main()
