"""What endpoints that sleep cost the gateway: `python -m bench.relay.sleeping`."""

import argparse
import asyncio
import hashlib
import hmac
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.relay.__main__ import cpu_seconds
from bench.relay.peers import standing_gateway
from forebay_gateway.api import ApiServer
from tests.endpoints import endpoint
from tests.integration.api_client import connect
from tests.integration.gateway_process import DIGEST_KEY, Gateway, encode
from tests.kubectl import Manifest, wait_for

FIRST_PORT = 20000
MERGE = "application/merge-patch+json"
AT_ONCE = 16
SECONDS = 20
"""For which the idle gateway's CPU time is taken."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.relay.sleeping", description=__doc__)
    parser.add_argument("--endpoints", type=int, default=1000, help="how many (default: %(default)s)")
    count = parser.parse_args().endpoints
    with tempfile.TemporaryDirectory() as folder, standing_gateway(Path(folder)) as gateway:
        before = memory(gateway)
        asyncio.run(make(gateway.kubectl.kubeconfig, count))
        sockets = Path(f"/proc/{gateway.process.pid}/fd")
        wait_for(lambda: sum(1 for _ in sockets.iterdir()) >= count, "the gateway listens for all", timeout=120)
        began, used = time.monotonic(), cpu_seconds(gateway.process.pid)
        time.sleep(SECONDS)
        share = (cpu_seconds(gateway.process.pid) - used) / (time.monotonic() - began)
        grown = (memory(gateway) - before) / count / 1024
        print("| endpoints at zero | gateway before, MiB | after, MiB | KiB an endpoint | CPU, % of a core |")
        print(f"|{'---|' * 5}")
        print(f"| {count} | {before / 2**20:.1f} | {memory(gateway) / 2**20:.1f} | {grown:.1f} | {share * 100:.2f} |")


def memory(gateway: Gateway) -> int:
    """Bytes that the gateway has resident."""
    return int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def make(kubeconfig: Path, count: int) -> None:
    """Make endpoints at zero, with what the operator writes for the gateway and a status of usual size."""
    api = ApiServer(await connect(kubeconfig))
    limit = asyncio.Semaphore(AT_ONCE)
    iep = "/apis/forebay.dev/v1alpha1/namespaces/home/inferenceendpoints"
    slices = "/apis/discovery.k8s.io/v1/namespaces/home/endpointslices"

    async def one(number: int) -> None:
        name = f"endpoint-{number}"
        made = endpoint(name, replicas=0, env=[{"name": "MAX_MODEL_LEN", "value": "8"}])
        told = {"status": status(name)}
        async with limit:
            await api.request("POST", iep, body=made)
            await api.request("PATCH", f"{iep}/{name}/status", body=told, content_type=MERGE)
            await api.request("POST", slices, body=slice_of(name, FIRST_PORT + number))

    await asyncio.gather(*map(one, range(count)))
    shards: dict[str, dict[str, str]] = {}
    for number in range(count):
        name = f"endpoint-{number}"
        shard = hashlib.sha256(f"home/{name}".encode()).hexdigest()[0]
        digest = hmac.new(DIGEST_KEY, f"key of {name}".encode(), hashlib.sha256).hexdigest()
        shards.setdefault(shard, {})[f"home.{name}"] = encode(digest.encode())
    for shard, data in shards.items():
        secret = {"metadata": {"name": f"forebay-gateway-keys-{shard}"}, "data": data}
        await api.request("POST", "/api/v1/namespaces/system/secrets", body=secret)
    await api.close()


def status(name: str) -> dict[str, Any]:
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": "Idle",
            "message": "no server runs; the gateway holds requests and starts one",
            "lastTransitionTime": "2026-11-24T12:00:00Z",
            "observedGeneration": 1,
        }
        for kind in ("Ready", "Reconciling", "Stalled", "ModelLoaded")
    ]
    return {
        "observedGeneration": 1,
        "url": f"http://{name}.home.svc/v2/{name}/openai/v1",
        "models": ["org/model"],
        "conditions": conditions,
    }


def slice_of(name: str, port: int) -> Manifest:
    labels = {
        "kubernetes.io/service-name": name,
        "endpointslice.kubernetes.io/managed-by": "gateway.forebay.dev",
        "app.kubernetes.io/managed-by": "forebay",
    }
    metadata = {"name": f"{name}-gateway", "labels": labels}
    return {"metadata": metadata, "addressType": "IPv4", "ports": [{"name": "http", "port": port}], "endpoints": []}


if __name__ == "__main__":
    main()
