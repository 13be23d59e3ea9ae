"""Measures the time that the gateway adds to a start: `python -m bench.relay.waking`.

From a request until its endpoint is scaled, as a watch sees it; and from the moment a pod answers that it is ready
until the first byte of the held request's answer. The pod is canned, so its own start takes no time.
"""

import asyncio
import json
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from bench.relay.peers import standing_gateway
from forebay_kube.api_client import ApiClient
from tests.integration.canned_pod import CannedPod
from tests.integration.gateway_process import KEY, MODEL, Gateway
from tests.integration.kubernetes_client import connect

ENDPOINTS = "/apis/forebay.dev/v1alpha1/namespaces/home/inferenceendpoints"
ROUNDS = 20


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        standing_gateway(Path(folder)) as gateway,
        ThreadPoolExecutor() as pool,
    ):
        rounds = [wake(gateway, pool, f"endpoint-{number}", number / ROUNDS) for number in range(ROUNDS)]
    print("| step | median, ms | most, ms |\n|---|---|---|")
    scaled, answered = zip(*rounds, strict=True)
    print(row("from the request until the endpoint is scaled", scaled))
    print(row("from the pod's first ready answer until the first byte", answered))


def row(step: str, seconds: Sequence[float]) -> str:
    return f"| {step} | {median(seconds) * 1000:.0f} | {max(seconds) * 1000:.0f} |"


def wake(gateway: Gateway, pool: ThreadPoolExecutor, name: str, place: float) -> tuple[float, float]:
    """Seconds of both steps. `place`, from 0 to 1, is when between two of the gateway's questions the pod is ready."""
    port = gateway.endpoint(name)
    watching = threading.Event()
    with CannedPod(ops_port=gateway.pod_ops_port, ready=False) as pod:
        gateway.pods(name, pod, ready=False)
        scaled = pool.submit(asyncio.run, wait_for_scale(gateway.kubectl.kubeconfig, name, watching))
        watching.wait(10)
        asking = pool.submit(ask, port)
        scaled_at = scaled.result(10)
        time.sleep(0.4 + place * 0.2)
        ready_at = time.monotonic()
        pod.ready = True
        asked_at, answered_at = asking.result(10)
    return scaled_at - asked_at, answered_at - ready_at


def ask(port: int) -> tuple[float, float]:
    """When a request began and when its first byte arrived. Raises RuntimeError for a status other than 200."""
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        began = time.monotonic()
        connection.sendall(head.encode() + body)
        answer = connection.recv(100)
        came = time.monotonic()
    if b" 200 " not in answer:
        raise RuntimeError(answer.decode())
    return began, came


async def wait_for_scale(kubeconfig: Path, name: str, watching: threading.Event) -> float:
    """When a watch sees that an endpoint has one replica."""
    api = ApiClient(await connect(kubeconfig))
    chosen = {"fieldSelector": f"metadata.name={name}"}
    try:
        version = (await api.request("GET", ENDPOINTS, chosen))["metadata"]["resourceVersion"]
        watching.set()
        async for event in api.watch(ENDPOINTS, {**chosen, "resourceVersion": version}):
            if event["object"]["spec"]["replicas"] == 1:
                return time.monotonic()
    finally:
        await api.close()
    raise RuntimeError(f"the watch of {name} ended before it was scaled")


if __name__ == "__main__":
    main()
