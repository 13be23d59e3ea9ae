"""From a request at zero to its first token, step by step: `python -m bench.wake`, on a kind cluster.

For comparison, the minimum of a start is measured: a single pod with the spec of the endpoint's, without a
controller, polled without a pause until its first token arrives. The two take turns. The client is a pod of the
cluster; steps are taken when a watch on this machine sees them, by the machine's one clock.

The time that each overlay adds is measured with single pods too. There is one pod for each overlay, and one pod whose
image has the server.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from cluster import kind, tools
from cluster.images import reference
from forebay_kube.api_client import ApiClient
from tests.e2e.canned import canned
from tests.e2e.cluster import NAME
from tests.e2e.forebay import Clients, client_pod, install_chart, read_key, wait_for_key, wait_ready
from tests.e2e.scale_to_zero import SERVED
from tests.endpoints import reason_is
from tests.integration.kubernetes_client import connect
from tests.kubectl import Kubectl, Manifest, condition, wait_for

PROGRAM = Path(__file__).with_name("first_token.py")
WAKE_TIMEOUT = 120

STEPS: Mapping[str, tuple[str, Callable[[Manifest], bool]]] = {
    "the endpoint is scaled (gateway)": (
        "/apis/forebay.dev/v1alpha1/namespaces/{}/inferenceendpoints",
        lambda found: found["spec"].get("replicas") == 1,
    ),
    "its Deployment is scaled (operator)": (
        "/apis/apps/v1/namespaces/{}/deployments",
        lambda found: found["spec"].get("replicas") == 1,
    ),
    "the pod is created (Kubernetes)": ("/api/v1/namespaces/{}/pods", lambda _: True),
    "scheduled (Kubernetes)": (
        "/api/v1/namespaces/{}/pods",
        lambda found: condition(found, "PodScheduled").get("status") == "True",
    ),
    "the container runs, as the kubelet reports": (
        "/api/v1/namespaces/{}/pods",
        lambda found: any("running" in each["state"] for each in found["status"].get("containerStatuses") or ()),
    ),
}
OVERLAYS = {"Copy": "vllm-canned", "ImageVolume": "vllm-canned", "None": "server-canned"}
"""The overlays to compare, each with an image of the same vLLM."""

READY = "/api/v1/namespaces/{}/pods", lambda found: condition(found, "Ready").get("status") == "True"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.wake", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="starts of each kind (default: %(default)s)")
    rounds = parser.parse_args().rounds
    up = [sys.executable, "-m", "cluster", "up", "--images", "--tests", "--name", NAME]
    subprocess.run(up, check=True, stdout=sys.stderr)
    cluster = Kubectl(tools.host_tools() / "kubectl", kind.kubeconfig(NAME))
    install_chart(cluster)
    kind.load(NAME, [reference("server-canned")])
    kubectl = cluster.within(f"bench-{uuid.uuid4().hex[:6]}")
    kubectl.run("create", "namespace", kubectl.namespace)
    try:
        measure(kubectl, rounds)
    finally:
        kubectl.run("delete", "namespace", kubectl.namespace, "--wait=false")


def measure(kubectl: Kubectl, rounds: int) -> None:
    """Make an endpoint and a client, take turns, print the table."""
    kubectl.apply(client_pod())
    kubectl.apply(canned("waking", scaling={"idleTimeout": "1h"}, env=[SERVED]))
    for overlay, image in OVERLAYS.items():
        spec = {"overlay": overlay, "image": reference(image), "replicas": 0}
        kubectl.apply(canned(name_of(overlay), env=[SERVED], **spec))
    kubectl.run("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
    wait_ready(kubectl, "waking")
    clients, url = Clients(kubectl), f"http://waking.{kubectl.namespace}.svc/v2/waking/openai/v1"
    key = read_key(kubectl, "waking")
    woken, alone, later = [], [], []
    added: dict[str, list[float]] = {overlay: [] for overlay in OVERLAYS if overlay != "None"}
    for number in range(rounds):
        kubectl.run("scale", "iep", "waking", "--replicas=0")
        wait_for(reason_is(kubectl, "Idle", "waking"), "the endpoint is idle", timeout=WAKE_TIMEOUT)
        wait_for(
            lambda: kubectl.list("pods", "forebay.dev/endpoint=waking") == [], "no pod is left", timeout=WAKE_TIMEOUT
        )
        wait_for_key(clients, url, key)
        alone.append(start_alone(kubectl, clients, "waking", f"alone-{number}", key))
        starts = {
            overlay: start_alone(
                kubectl, clients, name_of(overlay), f"{name_of(overlay)}-{number}", read_key(kubectl, name_of(overlay))
            )
            for overlay in OVERLAYS
        }
        for overlay, seconds in added.items():
            seconds.append(starts[overlay] - starts["None"])
        print(f"round {number}: {starts}", file=sys.stderr, flush=True)
        steps, ready = wake(kubectl, clients, url, key)
        woken.append(steps)
        later.append(ready)
        print(f"round {number}: {woken[-1]}, alone {alone[-1]:.2f} s", file=sys.stderr, flush=True)
    print("| from the request at zero until | s after the step before: median (least to most) |\n|---|---|")
    names = [*STEPS, "the first token"]
    for before, name in zip(["", *names], names, strict=False):
        print(row(name, [each[name] - (each[before] if before else 0.0) for each in woken]))
    totals = [each["the first token"] for each in woken]
    print(row("**all steps**", totals))
    print(row("the same pod alone, from its creation to its first token", alone))
    print(row("**difference**", [all_of_it - least for all_of_it, least in zip(totals, alone, strict=True)]))
    for overlay, seconds in added.items():
        print(row(f"the overlay {overlay}, compared with an image that has the server", seconds))
    print(row("not in the sum: from the first token until the kubelet sees that the pod is ready", later))


def name_of(overlay: str) -> str:
    """The name of the endpoint with this overlay."""
    return f"overlay-{overlay.lower()}"


def row(name: str, seconds: list[float]) -> str:
    return f"| {name} | {median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f}) |"


def wake(kubectl: Kubectl, clients: Clients, url: str, key: str) -> tuple[dict[str, float], float]:
    """Seconds from the request to each step, and from the first token until Kubernetes reports the pod ready."""
    watching = threading.Barrier(len(STEPS) + 2)
    with ThreadPoolExecutor(len(STEPS) + 1) as pool:
        seen = {
            name: pool.submit(watch_until, kubectl, path, "waking", becomes, watching)
            for name, (path, becomes) in [*STEPS.items(), ("", READY)]
        }
        watching.wait(10)
        asked = json.loads(clients.run_inside(PROGRAM, url, key, "served"))
        times = {name: each.result(WAKE_TIMEOUT) - asked["sent"] for name, each in seen.items()}
    first = asked["came"] - asked["sent"]
    return {**{name: times[name] for name in STEPS}, "the first token": first}, times[""] - first


def start_alone(kubectl: Kubectl, clients: Clients, endpoint: str, name: str, key: str) -> float:
    """Seconds from the creation of a pod like the endpoint's pods to its first token."""
    deployment = wait_for(lambda: kubectl.get("deployment", endpoint), f"{endpoint} has a Deployment")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": deployment["spec"]["template"]["spec"],
    }
    kubectl.apply(pod)
    began = time.time()
    wait_for(lambda: address(kubectl, name) or None, "the pod has an address", timeout=WAKE_TIMEOUT, interval=0.05)
    url = f"http://{address(kubectl, name)}:8000/v1"
    asked = json.loads(clients.run_inside(PROGRAM, url, key, "served"))
    kubectl.run("delete", "pod", name, "--grace-period=0", "--force")
    return float(asked["came"]) - began


def address(kubectl: Kubectl, pod: str) -> str:
    return str(((kubectl.get("pod", pod) or {}).get("status") or {}).get("podIP") or "")


def watch_until(
    kubectl: Kubectl, path: str, name: str, becomes: Callable[[Manifest], bool], watching: threading.Barrier
) -> float:
    """The time at which a watch shows that an object with this name prefix meets the condition. Raises TimeoutError."""

    async def wait() -> float:
        api = ApiClient(await connect(kubectl.kubeconfig))
        place = path.format(kubectl.namespace)
        try:
            async with asyncio.timeout(WAKE_TIMEOUT):
                version = (await api.request("GET", place))["metadata"]["resourceVersion"]
                await asyncio.to_thread(watching.wait, 10)
                async for event in api.watch(place, {"resourceVersion": version}):
                    found = event["object"]
                    if event["type"] != "BOOKMARK" and found["metadata"]["name"].startswith(name) and becomes(found):
                        return time.time()
        finally:
            await api.close()
        raise TimeoutError(place)

    return asyncio.run(wait())


if __name__ == "__main__":
    main()
