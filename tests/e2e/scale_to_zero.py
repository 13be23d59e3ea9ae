"""Endpoints that scale to zero, and looking at them."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.e2e.canned import canned
from tests.e2e.forebay import (
    PROGRAMS,
    SYSTEM,
    Clients,
    read_key,
)
from tests.endpoints import reason_is
from tests.kubectl import Kubectl, Manifest, condition, wait_for

TEXT = "The water waits above the gate until the turbine below it turns."

STEP = 0.03
"""Seconds of a step. One token is one letter, so an answer takes two seconds."""

SERVED = {"name": "OPENAI_SERVED_MODEL_NAME_OVERRIDE", "value": "served"}

QUICK = {"up": "2s", "down": "5s"}


def url(kubectl: Kubectl, name: str) -> str:
    """The endpoint's base URL in the cluster."""
    return f"http://{name}.{kubectl.namespace}.svc/v2/{name}/openai/v1"


def address(kubectl: Kubectl, name: str) -> tuple[str, str, str]:
    """The requests of the clients, and the expected answer."""
    return url(kubectl, name), read_key(kubectl, name), TEXT


def burst(
    clients: Clients, kubectl: Kubectl, name: str, count: int, *, retries: str = "", text: str = TEXT
) -> Manifest:
    """Send so many requests at once; what became of them."""
    base, key, _ = address(kubectl, name)
    arguments = base, key, "served", str(count), text, *([retries] if retries else [])
    counted: Manifest = json.loads(clients.run_inside(PROGRAMS / "burst.py", *arguments))
    print(f"{name}: {json.dumps(counted)}")
    return counted


@contextmanager
def bursting(clients: Clients, kubectl: Kubectl, name: str, count: int, **options: str) -> Iterator[Manifest]:
    """The same beside the context; the result is in the dict after it."""
    counted: Manifest = {}
    thread = threading.Thread(target=lambda: counted.update(burst(clients, kubectl, name, count, **options)))
    thread.start()
    yield counted
    thread.join(240)
    assert not thread.is_alive(), "the requests have not ended"


def pods(kubectl: Kubectl, name: str) -> list[Manifest]:
    return kubectl.list("pods", f"forebay.dev/endpoint={name}")


def replicas(kubectl: Kubectl, name: str) -> int:
    return int((kubectl.get("iep", name) or {})["spec"]["replicas"])


def is_idle(kubectl: Kubectl, name: str) -> None:
    """Wait until the endpoint has no pods, and its Service leads to the gateways."""
    wait_for(reason_is(kubectl, "Idle", name), f"{name} is idle", timeout=300)
    wait_for(lambda: pods(kubectl, name) == [], f"{name} has no pods", timeout=180)


def held(kubectl: Kubectl) -> int:
    """Pending requests of all gateways."""
    system = kubectl.within(SYSTEM)
    names = [each["metadata"]["name"] for each in gateways(kubectl)]
    answers = [
        json.loads(system.run("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{name}:8001/proxy/held"))
        for name in names
    ]
    return sum(int(one["held"]) for each in answers for one in each["endpoints"].values())


def gateways(kubectl: Kubectl) -> list[Manifest]:
    found = kubectl.within(SYSTEM).list("pods", "app.kubernetes.io/component=gateway")
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]


def make_canned(
    kubectl: Kubectl, name: str, scaling: Mapping[str, Any] | None, step: float = STEP, **spec: Any
) -> None:
    """An endpoint of the canned server, of which each token takes `step` seconds, with or without `scaling`."""
    pace = {"FOREBAY_CANNED_TEXT": TEXT, "FOREBAY_CANNED_STEP_SECONDS": str(step)}
    env = [SERVED, *spec.pop("env", [])]
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": pace})
    scales = {} if scaling is None else {"scaling": scaling}
    kubectl.apply(canned(name, env=env, envFrom=[{"configMapRef": {"name": name}}], **scales, **spec))


def settled(kubectl: Kubectl, name: str, tally: str) -> Callable[[], bool]:
    def ask() -> bool:
        found = kubectl.get("iep", name)
        assert found
        current = found["status"]["observedGeneration"] == found["metadata"]["generation"]
        return bool(current and condition(found, "Ready")["reason"] == "Ready" and found["status"]["ready"] == tally)

    return ask
