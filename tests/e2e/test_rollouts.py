"""Changes, evictions and pauses on real pods: what serves goes on, and the way back is short."""

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest

from cluster import kind
from tests.e2e.conftest import NAME as CLUSTER
from tests.e2e.forebay import images, wait_ready
from tests.e2e.test_endpoints import CANNED_MODEL, KV_CACHE, canned
from tests.endpoints import reason_is
from tests.kubectl import Kubectl, Manifest, Refused, condition, wait_for

WRONG = [KV_CACHE, {"name": "MAX_MODEL_LEN", "value": "many"}]


def ready_pods(kubectl: Kubectl, name: str) -> set[str]:
    pods = kubectl.list("pods", f"forebay.dev/endpoint={name}")
    staying = (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])
    return {pod["metadata"]["name"] for pod in staying if condition(pod, "Ready").get("status") == "True"}


def fails_and_serves(kubectl: Kubectl, name: str) -> Callable[[], Manifest | None]:
    """Whether the endpoint says that its change fails, and still serves."""

    def ask() -> Manifest | None:
        found = kubectl.get("iep", name)
        ready = condition(found, "Ready")
        return found if ready.get("status") == "True" and "MAX_MODEL_LEN" in ready["message"] else None

    return ask


def settled(kubectl: Kubectl, name: str, tally: str) -> Callable[[], bool]:
    def ask() -> bool:
        found = kubectl.get("iep", name)
        assert found
        current = found["status"]["observedGeneration"] == found["metadata"]["generation"]
        return bool(current and condition(found, "Ready")["reason"] == "Ready" and found["status"]["ready"] == tally)

    return ask


def test_a_bad_change_under_surge_takes_nothing_away_and_is_undone_at_once(kubectl: Kubectl) -> None:
    kubectl.apply(canned("surge"))
    wait_ready(kubectl, "surge")
    before = ready_pods(kubectl, "surge")
    kubectl.patch("iep", "surge", {"spec": {"env": WRONG}})
    found = wait_for(fails_and_serves(kubectl, "surge"), "the endpoint says why the change fails", timeout=90)
    assert condition(found, "Ready")["reason"] == "Degraded"
    assert ready_pods(kubectl, "surge") == before
    kubectl.patch("iep", "surge", {"spec": {"env": [KV_CACHE]}})
    wait_for(settled(kubectl, "surge", "1/1"), "the change is undone", timeout=20)
    assert ready_pods(kubectl, "surge") == before
    kubectl.delete("iep", "surge")


def test_replace_stops_at_the_first_that_fails(kubectl: Kubectl) -> None:
    kubectl.apply(canned("replace", replicas=2, rollout={"strategy": "Replace"}))
    wait_for(settled(kubectl, "replace", "2/2"), "two are ready", timeout=120)
    before = ready_pods(kubectl, "replace")
    kubectl.patch("iep", "replace", {"spec": {"env": WRONG}})
    wait_for(fails_and_serves(kubectl, "replace"), "the endpoint says why the change fails", timeout=90)
    left = ready_pods(kubectl, "replace")
    assert len(left) == 1
    assert left < before
    assert len(kubectl.list("pods", "forebay.dev/endpoint=replace")) <= 3, "no spare pod was made"
    kubectl.patch("iep", "replace", {"spec": {"env": [KV_CACHE]}})
    wait_for(settled(kubectl, "replace", "2/2"), "both are as before", timeout=90)
    assert left < ready_pods(kubectl, "replace")
    kubectl.delete("iep", "replace")


def test_pods_are_evicted_one_at_a_time(kubectl: Kubectl) -> None:
    kubectl.apply(canned("evicted", replicas=2))
    wait_for(settled(kubectl, "evicted", "2/2"), "two are ready", timeout=120)
    first, second = sorted(ready_pods(kubectl, "evicted"))
    evict(kubectl, first)
    with pytest.raises(Refused, match="disruption budget"):
        evict(kubectl, second)
    wait_for(lambda: len(ready_pods(kubectl, "evicted") - {first}) == 2, "another takes its place", timeout=90)
    kubectl.delete("iep", "evicted")


def evict(kubectl: Kubectl, pod: str) -> None:
    """Ask for a pod to go, as `kubectl drain` does."""
    metadata = {"name": pod, "namespace": kubectl.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/eviction"
    kubectl.run("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def test_a_suspended_endpoint_runs_nothing_and_comes_back_with_its_key(kubectl: Kubectl) -> None:
    kubectl.apply(canned("paused"))
    wait_ready(kubectl, "paused")
    key = kubectl.get("secret", "paused-api-key")
    kubectl.patch("iep", "paused", {"spec": {"suspend": True}})
    wait_for(lambda: kubectl.list("pods", "forebay.dev/endpoint=paused") == [], "nothing runs", timeout=60)
    wait_for(reason_is(kubectl, "Suspended", "paused"), "the endpoint says so")
    wait_ready(kubectl, "paused", timeout=10)
    kubectl.patch("iep", "paused", {"spec": {"suspend": False}})
    wait_for(settled(kubectl, "paused", "1/1"), "it runs again", timeout=90)
    assert kubectl.get("secret", "paused-api-key") == key
    kubectl.delete("iep", "paused")


@pytest.fixture
def weights(kubectl: Kubectl) -> Iterator[str]:
    """A claim on a folder of a node, with a copy of the canned model in it."""
    node, folder, name = kind.nodes(CLUSTER)[0], f"/var/lib/{kubectl.namespace}", kubectl.namespace
    subprocess.run(["docker", "exec", node, "install", "-d", "-m", "0777", folder], check=True, timeout=60)
    capacity = {"storage": "1Gi"}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": capacity,
            "accessModes": ["ReadWriteMany"],
            "storageClassName": name,
            "hostPath": {"path": folder},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
                    ]
                }
            },
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "weights"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": name,
            "volumeName": name,
            "resources": {"requests": capacity},
        },
    }
    copy = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "copy"},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 2000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "copy",
                    "image": images()["server-canned"],
                    "command": ["cp", "-rL", CANNED_MODEL, "/weights/model"],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "weights", "mountPath": "/weights"}],
                }
            ],
            "volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}}],
        },
    }
    for manifest in (volume, claim, copy):
        kubectl.run("apply", "-f", "-", stdin=json.dumps(manifest))
    kubectl.run("wait", "pod/copy", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    yield "weights"
    kubectl.delete("iep", "claimed")
    kubectl.delete("pod", "copy")
    kubectl.delete("pvc", "weights")
    kubectl.delete("pv", name)


def test_a_model_in_a_claim_is_served_read_only_and_beside_a_cache_in_it(kubectl: Kubectl, weights: str) -> None:
    kubectl.apply(canned("claimed", model=f"pvc://{weights}/model", cache={"claimName": weights}))
    found = wait_ready(kubectl, "claimed")
    assert found["status"]["models"] == ["claimed"]
    (pod,) = ready_pods(kubectl, "claimed")
    with pytest.raises(Refused, match="Read-only file system"):
        kubectl.run("exec", pod, "--", "touch", "/model/model/new")
    kubectl.run("exec", pod, "--", "touch", "/cache/new")
    kubectl.delete("iep", "claimed")
