"""Provoke pod failures on a real cluster, and store what Kubernetes reports about them.

    .venv/bin/pytest tests/e2e/test_control.py && .venv/bin/python -m tests.e2e.capture [CASE …]

writes tests/unit/operator/data/CASE.json, which tests/unit/operator/test_diagnosis.py replays. Done again for a new
Kubernetes, `git diff` shows the changed messages. The pods are plain ones whose container has the server's name:
that they come from an endpoint makes no difference to what the scheduler, the kubelet and the API server say.
"""

import json
import sys
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager

from cluster import kind, tools
from cluster.pins import ROOT
from forebay_operator.labels import CONTAINER
from tests.e2e.captured_cases import CASES, NODE, SLEEP, Case
from tests.e2e.cluster import NAME as CLUSTER
from tests.e2e.forebay import images
from tests.e2e.standins import run_helper
from tests.kubectl import Kubectl, Manifest, wait_for

DATA = ROOT / "tests/unit/operator/data"
CLUSTER_WIDE = {
    "PersistentVolume",
    "RuntimeClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
}


def main() -> None:
    """Capture all cases, or those that are named."""
    kubectl = Kubectl(tools.host_tools() / "kubectl", kind.kubeconfig(CLUSTER))
    names = sys.argv[1:] or list(CASES)
    node = kubectl.get("node", NODE) or {}
    versions = {key: node["status"]["nodeInfo"][key] for key in ("kubeletVersion", "containerRuntimeVersion")}
    with ExitStack() as around:
        system = around.enter_context(namespace(kubectl, {}))
        around.enter_context(run_helper(system, "registry", "5000", ports=(5000,), on_node=True))
        captures = around.enter_context(ThreadPoolExecutor(8))
        for done in as_completed([captures.submit(capture, kubectl, name, versions) for name in names]):
            print(done.exception() or done.result(), flush=True)


@contextmanager
def namespace(kubectl: Kubectl, labels: Mapping[str, str]) -> Iterator[Kubectl]:
    """A namespace while the context lasts."""
    name = f"capture-{uuid.uuid4().hex[:8]}"
    kubectl.run(
        "create",
        "-f",
        "-",
        stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
    )
    try:
        yield kubectl.within(name)
    finally:
        kubectl.run("delete", "namespace", name, "--wait=false")


def capture(kubectl: Kubectl, name: str, versions: Manifest) -> str:
    """Store the object of a case, without fields that differ between runs."""
    case = CASES[name]
    with namespace(kubectl, case.labels) as within:
        for other in case.others:
            within.apply(other)
        wait_for(lambda: within.get("serviceaccount", "default"), "pods can be created", timeout=30)
        kind = "deployment" if case.deployed else "pod"
        wanted = build(case)
        within.apply(wanted)
        if case.exec:
            within.run("wait", "pod/one", "--for=condition=Ready", "--timeout=60s")
            within.run("exec", "one", "--", *case.exec)

        def is_reported() -> Manifest | None:
            found = within.get(kind, "one")
            return found if found and found.get("status") and case.shows(found) else None

        found = wait_for(is_reported, f"{name} is reported", timeout=150)
        kept: dict[str, object] = {kind: prune(found)}
        if case.event:
            events = wait_for(lambda: events_of(within, case.event), case.event, timeout=60)
            kept = {**kept, "events": events}
        for other in case.others:
            if other["kind"] in CLUSTER_WIDE:
                within.run("delete", other["kind"], other["metadata"]["name"], "--wait=false")
    (DATA / f"{name}.json").write_text(json.dumps({**versions, **kept}, indent=1, sort_keys=True) + "\n")
    return name


def build(case: Case) -> Manifest:
    """The pod or the Deployment of a case."""
    made = images()
    plain = {
        "name": CONTAINER,
        "image": made["client"],
        "command": SLEEP,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    container = {key: value for key, value in {**plain, **case.container}.items() if value is not None}
    if container["image"] == "MODEL":
        container["image"] = made["smollm2-135m-instruct"]
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container], **case.pod}
    metadata = {"name": "one", "labels": {"app": "one"}}
    if not case.deployed:
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    template = {"metadata": {"labels": {"app": "one"}}, "spec": spec}
    whole = {"replicas": 1, "selector": {"matchLabels": {"app": "one"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": whole}


def events_of(kubectl: Kubectl, reason: str) -> list[Manifest] | None:
    """The events with a reason, without what differs from run to run."""
    found = [each for each in kubectl.list("events") if each["reason"] == reason]
    return [keep(each, "reason", "message", "type", "lastTimestamp", "count") for each in found] or None


def prune(found: Manifest) -> Manifest:
    """The fields of a pod or a Deployment that diagnosis reads."""
    metadata = keep(found["metadata"], "name", "creationTimestamp", "generation")
    status = keep(found["status"], "phase", "reason", "message", "observedGeneration", "containerStatuses")
    kinds = ("type", "status", "reason", "message", "lastTransitionTime")
    status["conditions"] = [keep(one, *kinds) for one in found["status"].get("conditions", [])]
    if found["kind"] == "Deployment":
        return {"metadata": metadata, "spec": keep(found["spec"], "progressDeadlineSeconds"), "status": status}
    for one in status.get("containerStatuses", []):
        one["state"], one["lastState"] = (
            {name: {key: value for key, value in what.items() if key != "containerID"} for name, what in state.items()}
            for state in (one["state"], one["lastState"])
        )
    statuses = [
        keep(one, "name", "image", "ready", "restartCount", "started", "state", "lastState")
        for one in status.pop("containerStatuses", [])
    ]
    container = keep(found["spec"]["containers"][0], "name", "image", "resources", "startupProbe")
    volumes = [one for one in found["spec"].get("volumes", []) if one["name"] == "extra"]
    spec = {"containers": [container], **({"volumes": volumes} if volumes else {})}
    return {"metadata": metadata, "spec": spec, "status": {**status, "containerStatuses": statuses}}


def keep(found: Manifest, *keys: str) -> Manifest:
    return {key: found[key] for key in keys if key in found}


if __name__ == "__main__":
    main()
