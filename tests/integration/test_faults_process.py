"""The operator as a process, behind a proxy that fails like networks, load balancers and API servers.

It must stay alive and ready, converge, create no object twice, and never revert a status.
"""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.endpoints import reason_is, start
from tests.integration.conftest import CRD
from tests.integration.control_plane import ControlPlane, free_ports
from tests.integration.convergence import LONG, replicas_are
from tests.integration.faulty_proxy import Asked, Cut, Ending, FaultyProxy, Refusal
from tests.integration.in_process import find_flapping
from tests.integration.operator_probes import ask, leads, stands_by
from tests.integration.operator_process import running_operator
from tests.kubectl import Kubectl, Manifest, install_crd, wait_for

REFUSING_SECONDS = 3.0
MAX_REFUSED_REQUESTS = 40
"""The maximum number of requests in REFUSING_SECONDS. A rate needs a fixed time, so the test sleeps."""


@dataclass
class Watched:
    """An operator that runs through the proxy.

    Attributes:
        access: its credentials for the API server.
        statuses: the statuses that it wrote, by path.
    """

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    proxy: FaultyProxy
    access: Kubectl
    statuses: dict[str, list[Manifest]] = field(default_factory=dict)

    def listen(self, asked: Asked) -> None:
        if asked.path.endswith("/status"):
            self.statuses.setdefault(asked.path, []).append(json.loads(asked.body)["status"])

    def check_health(self) -> None:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        wait_for(lambda: ask(self.port, "/readyz") == (200, "leading\n"), "it is ready", timeout=40)
        assert ask(self.port, "/healthz")[0] == 200
        assert "Traceback" not in self.log.read_text()

    def flapping(self, namespace: str) -> list[str]:
        return [
            each
            for path, history in self.statuses.items()
            if f"/{namespace}/" in path
            for each in find_flapping(history)
        ]


@pytest.fixture(scope="module")
def one_for_all(proxy: FaultyProxy, access: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    (port,), log = free_ports(1), tmp_path_factory.mktemp("operator") / "log"
    with running_operator(access, log, "--resync-interval", LONG, port=port) as process:
        wait_for(lambda: leads(port), "the operator is leading")
        yield Watched(process, port, log, proxy, access)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0


@pytest.fixture
def operator(one_for_all: Watched) -> Iterator[Watched]:
    one_for_all.proxy.listen = one_for_all.listen
    yield one_for_all
    one_for_all.proxy.rule, one_for_all.proxy.delay = (lambda _: None), 0.0
    one_for_all.check_health()


def wait_for_count(kubectl: Kubectl, count: int, timeout: float) -> None:
    """Wait until the status counts `count` pods. During a start the operator writes it once in 10 s."""
    wait_for(replicas_are(kubectl, count), "the number of pods is correct", timeout)
    words = "the status counts them, and none that is gone"
    wait_for(lambda: (kubectl.get("iep", "one") or {})["status"].get("replicas") == count, words)


def wait_for_start(kubectl: Kubectl) -> None:
    start(kubectl)
    wait_for(reason_is(kubectl, "Scheduling"), "the endpoint waits for a node")
    wait_for(replicas_are(kubectl, 1), "a pod exists")


def port_is(kubectl: Kubectl, port: int) -> Callable[[], bool]:
    return lambda: (kubectl.get("service", "one") or {}).get("spec", {}).get("ports", [{}])[0].get("port") == port


def lease(control_plane: Kubectl) -> Manifest:
    found = control_plane.within("forebay-system").get("lease", "forebay-operator")
    assert found
    return dict(found["spec"])


@pytest.mark.parametrize("seconds", [8, pytest.param(60, marks=pytest.mark.soak)])
def test_the_operator_recovers_from_an_unreachable_api_server(
    operator: Watched, kubectl: Kubectl, whole_control_plane: ControlPlane, tmp_path: Path, seconds: float
) -> None:
    wait_for_start(kubectl)
    before = lease(whole_control_plane.kubectl)
    (port,) = free_ports(1)
    whole_control_plane.api_server.kill()
    with running_operator(operator.access, tmp_path / "second", port=port) as second:
        until, resting = time.monotonic() + seconds, "all work is paused until it can"
        wait_for(
            lambda: time.monotonic() > until and resting in operator.log.read_text(), "the operator pauses", timeout=100
        )
        operator.check_health()
        whole_control_plane.api_server.start()
        back = time.monotonic()
        kubectl.run("delete", "pods", "--all")
        kubectl.patch("iep", "one", {"spec": {"replicas": 2}})
        wait_for(
            lambda: kubectl.run("get", "deployment/one", "-o=jsonpath={.spec.replicas}") == "2",
            "the operator continues",
        )
        print(f"the operator worked {time.monotonic() - back:.1f} s after the API server was back")
        if seconds > 10:  # after a minute the controllers of Kubernetes itself took another 78 s
            wait_for_count(kubectl, 2, timeout=180)
        wait_for(lambda: stands_by(port), "the second operator is on standby")
        after = lease(whole_control_plane.kubectl)
        assert (after["holderIdentity"], after["leaseTransitions"]) == (
            before["holderIdentity"],
            before["leaseTransitions"],
        )
        assert operator.flapping(kubectl.namespace) == []
        second.send_signal(signal.SIGTERM)
        assert second.wait(timeout=10) == 0
    assert "Traceback" not in (tmp_path / "second").read_text()


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(429, "TooManyRequests", {"Retry-After": "1"}),
        Refusal(500, "InternalError"),
        Refusal(401, "Unauthorized"),
        pytest.param(Refusal(503, "ServiceUnavailable"), marks=pytest.mark.soak),
        pytest.param(Cut.BEFORE, marks=pytest.mark.soak),
        Cut.AFTER,
    ],
    ids=str,
)
def test_the_operator_recovers_from_an_api_server_that_rejects_every_request(
    operator: Watched, kubectl: Kubectl, refusal: Refusal | Cut
) -> None:
    wait_for_start(kubectl)
    asked: list[Asked] = []

    def refuse(request: Asked) -> Refusal | Cut:
        asked.append(request)
        return refusal

    operator.proxy.rule = refuse
    operator.proxy.end_watches(Ending.HALF_A_LINE)
    kubectl.patch("iep", "one", {"spec": {"replicas": 2}})
    time.sleep(REFUSING_SECONDS)
    assert ask(operator.port, "/healthz")[0] == 200, "an unreachable API server must not restart the operator"
    operator.proxy.rule = lambda _: None
    operator.check_health()
    assert asked
    assert len(asked) < MAX_REFUSED_REQUESTS, "the operator backs off from a failing API server"
    wait_for(replicas_are(kubectl, 2), "the operator converges", timeout=20)
    assert operator.flapping(kubectl.namespace) == []


def test_the_operator_recovers_from_conflicts_at_every_write(operator: Watched, kubectl: Kubectl) -> None:
    wait_for_start(kubectl)

    def refuse(asked: Asked) -> Refusal | None:
        return Refusal(409, "Conflict") if asked.method != "GET" and kubectl.namespace in asked.path else None

    operator.proxy.rule = refuse
    kubectl.patch("iep", "one", {"spec": {"replicas": 2}})
    wait_for(lambda: "by the proxy" in operator.log.read_text(), "a write is refused")
    operator.proxy.rule = lambda _: None
    wait_for(replicas_are(kubectl, 2), "the operator converges", timeout=20)
    assert operator.flapping(kubectl.namespace) == []


@pytest.mark.parametrize("ending", list(Ending), ids=str)
def test_objects_deleted_while_watches_are_broken_are_restored(
    operator: Watched, kubectl: Kubectl, ending: Ending
) -> None:
    wait_for_start(kubectl)
    operator.proxy.rule = lambda asked: Cut.BEFORE if asked.watch or asked.lists else None
    operator.proxy.end_watches(ending)
    kubectl.run("delete", "deployment,service", "one")
    wait_for(lambda: kubectl.list("pods") == [], "the pods are deleted")
    operator.proxy.rule = lambda _: None
    wait_for(lambda: kubectl.get("service", "one"), "the Service is restored", timeout=20)
    wait_for_count(kubectl, 1, timeout=20)
    assert operator.flapping(kubectl.namespace) == []


def test_slow_watches_do_not_change_the_outcome(operator: Watched, kubectl: Kubectl) -> None:
    wait_for_start(kubectl)
    operator.proxy.delay = 0.6
    for port in (8080, 8081):
        kubectl.patch("iep", "one", {"spec": {"service": {"port": port}, "replicas": 2}})
        wait_for(port_is(kubectl, port), "the operator has written the port, and its watch still lags behind")
    kubectl.run("delete", "service", "one")
    wait_for(port_is(kubectl, 8081), "the Service has its desired state", timeout=20)
    wait_for(replicas_are(kubectl, 2), "the status is current", timeout=20)
    assert operator.flapping(kubectl.namespace) == []
    assert len(kubectl.list("deployments")) == len(kubectl.list("services")) == 1


@pytest.mark.parametrize("year", [pytest.param(1999, marks=pytest.mark.soak), 2099])
def test_the_clock_of_the_lease_holder_does_not_matter(operator: Watched, control_plane: Kubectl, year: int) -> None:
    times = dict.fromkeys(("renewTime", "acquireTime"), f"{year}-01-01T00:00:00.000000Z")
    control_plane.within("forebay-system").patch("lease", "forebay-operator", {"spec": times})
    wait_for(lambda: f"{year}-" not in lease(control_plane)["renewTime"], "the lease is renewed")
    operator.check_health()


def test_the_operator_recovers_from_an_api_server_that_answers_401(operator: Watched, kubectl: Kubectl) -> None:
    """As if the API server's webhook for tokens were unreachable."""
    operator.proxy.rule = lambda _: Refusal(401, "Unauthorized")
    operator.proxy.end_watches(Ending.FAILED)
    wait_for(
        lambda: ask(operator.port, "/readyz")[0] == 503, "the operator reports that its cache may be stale", timeout=60
    )
    assert "the watches ended" in ask(operator.port, "/readyz")[1]
    operator.proxy.rule = lambda _: None
    wait_for_start(kubectl)


def test_the_operator_continues_after_the_crd_was_deleted_and_applied_again(
    operator: Watched, kubectl: Kubectl
) -> None:
    name = "inferenceendpoints.forebay.dev"
    kubectl.delete("crd", name)
    wait_for(
        lambda: ask(operator.port, "/readyz")[0] == 503, "the operator reports that its cache may be stale", timeout=60
    )
    install_crd(kubectl, CRD, name)
    wait_for_start(kubectl)
