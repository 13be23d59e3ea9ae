"""Changes, evictions and pauses on real pods: serving pods continue, and an undo is fast."""

import json
from collections.abc import Callable, Iterator

import pytest
import yaml

from cluster.pins import ROOT
from tests.e2e.canned import CANNED_MODEL, KV_CACHE, canned
from tests.e2e.claims import filled_claim
from tests.e2e.forebay import images, wait_ready
from tests.e2e.scale_to_zero import settled
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


def test_a_failed_surge_change_keeps_all_replicas_and_a_suspended_endpoint_keeps_its_key(kubectl: Kubectl) -> None:
    """Three of the demo's pods and a spare one fit on the demo's node."""
    demo = yaml.safe_load((ROOT / "examples/smollm2.yaml").read_text())
    kubectl.apply(canned("surge", replicas=3, resources=demo["spec"]["resources"]))
    wait_for(settled(kubectl, "surge", "3/3"), "three pods are ready", timeout=300)
    before = ready_pods(kubectl, "surge")
    kubectl.patch("iep", "surge", {"spec": {"env": WRONG}})
    found = wait_for(fails_and_serves(kubectl, "surge"), "the status says why the change fails", timeout=240)
    assert condition(found, "Ready")["reason"] == "Degraded"
    assert ready_pods(kubectl, "surge") == before
    kubectl.patch("iep", "surge", {"spec": {"env": [KV_CACHE]}})
    wait_for(settled(kubectl, "surge", "3/3"), "the change is undone", timeout=60)
    assert ready_pods(kubectl, "surge") == before

    key = kubectl.get("secret", "surge-api-key")
    kubectl.patch("iep", "surge", {"spec": {"suspend": True}})
    wait_for(lambda: kubectl.list("pods", "forebay.dev/endpoint=surge") == [], "no pod runs", timeout=180)
    wait_for(reason_is(kubectl, "Suspended", "surge"), "the status of the endpoint shows it")
    wait_ready(kubectl, "surge", timeout=30)
    kubectl.patch("iep", "surge", {"spec": {"suspend": False, "replicas": 1}})
    wait_for(settled(kubectl, "surge", "1/1"), "the pods run again", timeout=240)
    assert kubectl.get("secret", "surge-api-key") == key
    kubectl.delete("iep", "surge")


def test_replace_stops_at_the_first_failed_pod_and_pods_are_evicted_one_at_a_time(kubectl: Kubectl) -> None:
    kubectl.apply(canned("replace", replicas=2, rollout={"strategy": "Replace"}))
    wait_for(settled(kubectl, "replace", "2/2"), "two pods are ready", timeout=300)
    before = ready_pods(kubectl, "replace")
    kubectl.patch("iep", "replace", {"spec": {"env": WRONG}})
    wait_for(fails_and_serves(kubectl, "replace"), "the status says why the change fails", timeout=240)
    left = ready_pods(kubectl, "replace")
    assert len(left) == 1
    assert left < before
    assert len(kubectl.list("pods", "forebay.dev/endpoint=replace")) <= 3, "no spare pod was made"
    kubectl.patch("iep", "replace", {"spec": {"env": [KV_CACHE]}})
    wait_for(settled(kubectl, "replace", "2/2"), "both pods are the same as before", timeout=240)
    assert left < ready_pods(kubectl, "replace")

    first, second = sorted(ready_pods(kubectl, "replace"))
    evict(kubectl, first)
    with pytest.raises(Refused, match="disruption budget"):
        evict(kubectl, second)
    wait_for(lambda: len(ready_pods(kubectl, "replace") - {first}) == 2, "another pod replaces it", timeout=240)
    kubectl.delete("iep", "replace")


def evict(kubectl: Kubectl, pod: str) -> None:
    """Evict a pod, as `kubectl drain` does."""
    metadata = {"name": pod, "namespace": kubectl.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/eviction"
    kubectl.run("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


@pytest.fixture
def weights(kubectl: Kubectl) -> Iterator[str]:
    """A claim with a copy of the canned model in it."""
    copy = ("cp", "-rL", CANNED_MODEL, "/weights/model")
    with filled_claim(kubectl, "weights", images()["vllm-canned"], *copy) as name:
        yield name
        kubectl.delete("iep", "claimed")


def test_a_model_in_a_claim_is_served_read_only_and_beside_a_cache_in_it(kubectl: Kubectl, weights: str) -> None:
    kubectl.apply(canned("claimed", model=f"pvc://{weights}/model", cache={"claimName": weights}))
    found = wait_ready(kubectl, "claimed")
    assert found["status"]["models"] == ["claimed"]
    (pod,) = ready_pods(kubectl, "claimed")
    with pytest.raises(Refused, match="Read-only file system"):
        kubectl.run("exec", pod, "--", "touch", "/model/model/new")
    kubectl.run("exec", pod, "--", "touch", "/cache/new")
    kubectl.delete("iep", "claimed")
