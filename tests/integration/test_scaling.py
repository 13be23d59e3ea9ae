"""Operator and gateway together, each a process, on a real API server: to zero and back, up and down with the load.

The pods are played: their processes answer for them, and the test writes what kubelet and endpoint controller would.
"""

import base64
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from forebay_operator.resources.gateway_slice import read_port
from tests.endpoints import endpoint, reason_is
from tests.integration.audit import operators_requests
from tests.integration.canned_pod import TEXT, own_address
from tests.integration.gateway_process import running_gateway, stand_by
from tests.integration.openai_calls import ask, send
from tests.integration.operator_process import give_access, running_operator
from tests.integration.scaling_stage import SCALING, ScalingStage, make_idle, reachable
from tests.kubectl import Kubectl, condition, wait_for


@pytest.fixture(scope="module")
def stage(control_plane: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScalingStage]:
    """Gateway and access of an operator; each test starts that itself."""
    folder, mark = tmp_path_factory.mktemp("scaling"), uuid.uuid4().hex[:6]
    home, system = control_plane.within(f"scaled-{mark}"), f"system-{mark}"
    home.run("create", "namespace", home.namespace)
    values = "--set=gateway.enabled=true", f"--set=watchNamespaces={{{home.namespace}}}"
    access = give_access(control_plane, folder / "kubeconfig", system, *values)
    with running_gateway(
        home, system, folder / "gateway", digest_key=None, ops_host=own_address(), hold_seconds=30
    ) as one:

        def start(*options: str) -> Any:
            return running_operator(
                access, folder / "operator", "--namespace", system, "--watch-namespaces", home.namespace,
                "--gateway-service=forebay-gateway", f"--ops-port={one.ops_port}", *options,
            )  # fmt: skip

        yield ScalingStage(home, control_plane.within(system), one, start)
    assert "Traceback" not in (folder / "operator").read_text()
    assert "Traceback" not in (folder / "gateway").read_text()


@pytest.fixture
def operator(stage: ScalingStage) -> Iterator[ScalingStage]:
    """An operator, one gateway that is ready, and no endpoint left of the test before."""
    stand_by(stage.system, own_address())
    with stage.start():
        yield stage
        stage.kubectl.run("delete", "iep", "--all")


def test_a_request_starts_an_endpoint_at_zero_which_scales_to_zero_again(operator: ScalingStage) -> None:
    port = make_idle(operator)
    assert 20000 <= port < 30000
    wait_for(lambda: send(port, "GET", "/v1/models", key=operator.key())[0] == 200, "the gateway accepts the key")
    assert send(port, "POST", "/v1/chat/completions", {"model": "org/model"}, key="fb_not-the-right-key")[0] == 401
    assert operator.replicas() == 0
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask, operator.client(port))
        wait_for(lambda: operator.replicas() == 1, "the request starts a replica")
        with operator.playing(1) as (name,), reachable(operator):
            assert asking.result(30) == TEXT
            operator.loads[name].begun = 1
            wait_for(reason_is(operator.kubectl, "Ready"), "the endpoint is ready")
            wait_for(lambda: operator.listed() == [], "the slice has no endpoints")
            assert operator.slice()["ports"][0]["port"] == port
            wait_for(lambda: operator.replicas() == 0, "three seconds without a request", timeout=40)
            wait_for(lambda: operator.listed() == [own_address()], "the slice points to the gateway again")
            wait_for(reason_is(operator.kubectl, "Idle"), "the endpoint is idle")
    deployment = operator.kubectl.get("deployment", "one")
    assert deployment
    assert deployment["spec"]["replicas"] == 0
    requests = operators_requests(operator.kubectl, operator.system.namespace)
    written = [each.resource for each in requests if each.verb in ("patch", "update")]
    scaled_to_zero = len(written) - written[::-1].index("inferenceendpoints/scale")
    assert [each for each in written[scaled_to_zero:] if each in ("endpointslices", "deployments")][:2] == [
        "endpointslices",
        "deployments",
    ], "the slice points to the gateway before the pods are deleted"
    reasons = {each["reason"] for each in operator.kubectl.list("events")}
    assert "Scaled" in reasons


def test_the_status_counts_queued_jobs(operator: ScalingStage) -> None:
    make_idle(operator)
    port, key = operator.gateway.port, operator.key()
    wait_for(lambda: send(port, "GET", "/v2/one/openai/v1/models", key=key)[0] == 200, "the gateway accepts the key")
    job = {"input": {"prompt": "Hello"}, "policy": {"lowPriority": True}}
    assert send(port, "POST", "/v2/one/run", job, key)[0] == 200
    expected = {"queued": 1, "running": 0}
    wait_for(
        lambda: (operator.kubectl.get("iep", "one") or {})["status"].get("jobs") == expected, "the status shows it"
    )
    header, row = (line.split() for line in operator.kubectl.run("get", "iep", "one", "-o", "wide").splitlines())
    assert (header[6:8], row[6:8]) == (["QUEUED", "RUNNING"], ["1", "0"])
    assert operator.replicas() == 0, "its priority is low"
    assert send(port, "POST", "/v2/one/purge-queue", {}, key)[0] == 200


def test_the_service_points_to_running_gateways_until_a_pod_is_listed(operator: ScalingStage) -> None:
    make_idle(operator)
    another = "192.0.2.1"
    stand_by(operator.system, own_address(), another)
    wait_for(lambda: set(operator.listed()) == {own_address(), another}, "the slice points to both gateways")
    stand_by(operator.system, own_address())
    wait_for(lambda: operator.listed() == [own_address()], "the slice points to the remaining gateway")
    operator.kubectl.run("scale", "iep", "one", "--replicas=1")
    with operator.playing(1):
        wait_for(reason_is(operator.kubectl, "Ready"), "the endpoint is ready")
        assert operator.listed() == [own_address()], "the Service has no pod yet"
        with reachable(operator):
            wait_for(lambda: operator.listed() == [], "the slice has no endpoints")


def test_replicas_follow_the_load_and_idle_pods_are_removed_first(operator: ScalingStage) -> None:
    operator.kubectl.apply(endpoint(scaling={**SCALING, "minReplicas": 1, "idleTimeout": "10m"}))
    with operator.playing(1) as (first,):
        operator.loads[first].in_flight = 6
        wait_for(lambda: operator.replicas() == 3, "six requests at two each")
        with operator.playing(2) as others:
            for number, name in enumerate(others):
                operator.loads[name].in_flight = 2 - number
            operator.loads[first].in_flight = 1
            operator.loads[others[1]].in_flight = 0
            wait_for(lambda: operator.replicas() == 2, "three requests at two each", timeout=40)

            def costs() -> dict[str, str]:
                pods = operator.kubectl.list("pods", "forebay.dev/endpoint=one")
                found = {each["metadata"]["name"]: each["metadata"].get("annotations", {}) for each in pods}
                return {
                    name: each.get("controller.kubernetes.io/pod-deletion-cost", "") for name, each in found.items()
                }

            wait_for(lambda: len(costs()) == 2, "one replica is removed")
            assert costs() == {first: "1", others[0]: "2"}


def test_a_pod_that_does_not_answer_is_not_idle(operator: ScalingStage) -> None:
    operator.kubectl.apply(endpoint(scaling=SCALING))
    with operator.playing(1) as (name,):
        operator.loads[name].answers = False
        wait_for(reason_is(operator.kubectl, "Ready"), "the endpoint is ready")
        time.sleep(8)  # twice the idle time and more, in which nothing must happen
        assert operator.replicas() == 1
        operator.loads[name].answers = True
        wait_for(lambda: operator.replicas() == 0, "the pod reports that it is idle", timeout=40)


def test_without_a_gateway_no_endpoint_scales_to_zero(operator: ScalingStage) -> None:
    make_idle(operator)
    stand_by(operator.system)
    wait_for(reason_is(operator.kubectl, "NoGateway"), "the status says that no gateway can hold requests")
    assert operator.listed() == []
    operator.kubectl.run("scale", "iep", "one", "--replicas=1")
    with operator.playing(1):
        wait_for(reason_is(operator.kubectl, "Ready"), "the endpoint is ready")
        time.sleep(8)  # twice the idle time and more, in which nothing must happen
        assert operator.replicas() == 1
        stand_by(operator.system, own_address())
        wait_for(lambda: operator.replicas() == 0, "a gateway accepts pending requests", timeout=40)


def test_a_new_operator_scales_down_only_after_a_full_window_of_samples(stage: ScalingStage) -> None:
    stand_by(stage.system, own_address())
    with stage.start():
        stage.kubectl.apply(endpoint(scaling={**SCALING, "idleTimeout": "1s"}))
        with stage.playing(1):
            wait_for(reason_is(stage.kubectl, "Ready"), "the endpoint is ready")
    port = read_port(stage.slice())
    with stage.start():
        began = time.monotonic()
        wait_for(lambda: stage.replicas() == 1 or None, "the object exists")
        names = [each["metadata"]["name"] for each in stage.kubectl.list("pods", "forebay.dev/endpoint=one")]
        for name in names:
            del stage.loads[name]
        with stage.playing(1):
            wait_for(lambda: stage.replicas() == 0, "three seconds without a request", timeout=40)
            assert time.monotonic() - began > 4, "a whole window for scaling down"
            assert read_port(stage.slice()) == port
            stage.kubectl.run("delete", "iep", "one")


def test_the_last_replica_sleeps_and_a_request_wakes_it(operator: ScalingStage) -> None:
    operator.kubectl.apply(endpoint(scaling={**SCALING, "idle": "Sleep"}))
    with operator.playing(1) as (name,):
        load = operator.loads[name]
        with reachable(operator):
            wait_for(lambda: operator.listed() == [], "the slice has no endpoints")
            wait_for(lambda: load.asleep, "the engine is put to sleep", timeout=30)
            assert operator.listed() == [own_address()], "the slice points to the gateway before the engine sleeps"
            token = operator.kubectl.run(
                "get", "secret", "one-control", "-o=go-template={{.data.token | base64decode}}"
            )
            assert load.orders == [f"/sleep?level=1&after=8 Bearer {token}"]
        play_readiness(operator, name, ready=False)
        found = wait_for(reason_is(operator.kubectl, "Idle"), "the endpoint is idle")
        assert condition(found, "ModelLoaded")["status"] == "True"
        assert operator.replicas() == 1
        wait_for(lambda: send(read_port(operator.slice()), "GET", "/v1/models", key=operator.key())[0] == 200, "a key")
        with ThreadPoolExecutor() as pool:
            asking = pool.submit(ask, operator.client(read_port(operator.slice())))
            wait_for(lambda: not load.asleep, "the endpoint is started")
            play_readiness(operator, name, ready=True)
            with reachable(operator):
                assert asking.result(30) == TEXT
                wait_for(reason_is(operator.kubectl, "Ready"), "the endpoint is ready")
                wait_for(lambda: operator.listed() == [], "the slice has no endpoints")


def play_readiness(stage: ScalingStage, pod: str, *, ready: bool) -> None:
    """The kubelet's status of a pod whose server runs."""
    server = {
        "name": "server", "image": "x", "imageID": "x", "restartCount": 0, "ready": ready, "started": True,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }  # fmt: skip
    conditions = [{"type": "Ready", "status": str(ready)}]
    status = {"conditions": conditions, "containerStatuses": [server]}
    stage.kubectl.patch("pod", pod, {"status": status}, "--subresource=status")


def test_bounds_hold_and_suspend_overrides_them(operator: ScalingStage) -> None:
    operator.kubectl.apply(endpoint(replicas=0, scaling={"minReplicas": 2, "maxReplicas": 3}))
    wait_for(lambda: operator.replicas() == 2, "two at least")
    operator.kubectl.patch("iep", "one", {"spec": {"replicas": 9}})
    wait_for(lambda: operator.replicas() == 3, "three at most")
    operator.kubectl.patch("iep", "one", {"spec": {"suspend": True, "replicas": 1}})
    wait_for(reason_is(operator.kubectl, "Suspended"), "the endpoint is suspended")
    operator.kubectl.apply(endpoint("two", replicas=0, scaling={"minReplicas": 2, "maxReplicas": 3}))
    wait_for(lambda: operator.replicas("two") == 2, "another endpoint is scaled at the same time")
    assert operator.replicas() == 1, "no process scales a suspended endpoint"


def test_an_added_or_removed_key_takes_effect_within_a_minute(stage: ScalingStage) -> None:
    """Without a round of the operator's: the gateway names the Secret to it."""
    stand_by(stage.system, own_address())
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}}
    first, second, third = (f"the-{which}-key-of-the-user" for which in ("first", "second", "third"))
    stage.kubectl.apply({**secret, "stringData": {"a": first}})
    with stage.start("--resync-interval=3600"):
        stage.kubectl.apply(endpoint("keyed", replicas=0, scaling=SCALING, auth={"secretName": "mine"}))
        wait_for(reason_is(stage.kubectl, "Idle", "keyed"), "the endpoint is at zero")
        port = read_port(stage.slice("keyed"))

        def opens(key: str) -> bool:
            return send(port, "GET", "/v1/models", key=key)[0] == 200

        wait_for(lambda: opens(first), "the key is accepted")
        stage.kubectl.patch("secret", "mine", {"stringData": {"a": second}})
        wait_for(lambda: opens(second), "an added key is accepted after one attempt", timeout=60, interval=1)
        assert not opens(first)
        stage.kubectl.patch("secret", "mine", {"stringData": {"b": third}})
        asked = {"model": "org/model", "messages": []}
        assert send(stage.gateway.port, "POST", "/openai/v1/chat/completions", asked, third)[0] == 401
        wait_for(
            lambda: opens_shared(stage, third), "a key tried with the model name is accepted", timeout=60, interval=1
        )
        stage.kubectl.patch("secret", "mine", {"data": {"a": None}})
        wait_for(lambda: not opens(second), "a removed key is no longer accepted", timeout=60, interval=1)
        assert opens(third)
        stage.kubectl.delete("iep", "keyed")


def opens_shared(stage: ScalingStage, key: str) -> bool:
    """Whether a key is accepted, by a request that names no endpoint."""
    return send(stage.gateway.port, "GET", "/openai/v1/models", key=key)[0] == 200


def test_keys_reach_the_gateway_only_as_digests_and_vanish_with_their_secret(operator: ScalingStage) -> None:
    system = operator.system
    port, key = make_idle(operator), operator.key()

    def opens(one: str) -> bool:
        return send(port, "GET", "/v1/models", key=one)[0] == 200

    wait_for(lambda: opens(key), "the key is accepted")
    data = [each.get("data") or {} for each in system.list("secrets", "app.kubernetes.io/managed-by=forebay")]
    kept = b"".join(base64.b64decode(value) for each in data for value in each.values())
    assert len(kept) > 64
    assert key.encode() not in kept
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}}
    operator.kubectl.apply(
        {**secret, "stringData": {"a": "first-key-of-the-user", "b": "second-key-of-the-user", "c": "short"}}
    )
    operator.kubectl.patch("iep", "one", {"spec": {"auth": {"secretName": "mine"}}})
    wait_for(lambda: opens("first-key-of-the-user") and opens("second-key-of-the-user"), "the user's keys are accepted")
    assert not opens(key)
    assert not opens("short")
    operator.kubectl.run("delete", "secret", "mine")
    wait_for(lambda: not opens("first-key-of-the-user"), "a key of a deleted Secret is not accepted")
    operator.kubectl.run("delete", "iep", "one")

    def entries() -> set[str]:
        return {entry for each in system.list("secrets") for entry in each.get("data") or ()}

    wait_for(lambda: f"{operator.kubectl.namespace}.one" not in entries(), "the digests are deleted with the endpoint")
