"""Upgrades of two endpoints by operators of two releases, on a real API server with Kubernetes' own controllers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen

import pytest

from tests.endpoints import endpoint, reason_is
from tests.integration.control_plane import free_ports
from tests.integration.kubelet import play_kubelet
from tests.integration.operator_probes import leads, stands_by
from tests.integration.operator_process import running_operator
from tests.kubectl import Kubectl, Manifest, condition, wait_for

RUNNING = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
UNPULLED = {
    "phase": "Pending",
    "containerStatuses": [
        {
            "name": "server", "image": "", "imageID": "", "ready": False, "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull", "message": "manifest unknown: not found"}},
        }
    ],
}  # fmt: skip

Run = Callable[..., AbstractContextManager[Popen[bytes]]]


@pytest.fixture
def run(kubectl: Kubectl, operators_kubectl: Kubectl, tmp_path: Path) -> Iterator[Run]:
    """Runs an operator of a release: another server image. It watches only the test's namespace."""

    def start(number: int, *options: str, port: int | None = None) -> AbstractContextManager[Popen[bytes]]:
        image = f"server:{number}"
        flags = ["--gpu-image", image, "--watch-namespaces", kubectl.namespace, *options]
        return running_operator(operators_kubectl, tmp_path / "log", *flags, port=port)

    yield start
    assert "Traceback" not in (tmp_path / "log").read_text()


def pods(kubectl: Kubectl, name: str) -> dict[str, list[Manifest]]:
    """The pods of an endpoint that are not being deleted, by the release of their server."""
    found: dict[str, list[Manifest]] = {}
    for pod in kubectl.list("pods", f"forebay.dev/endpoint={name}"):
        if "deletionTimestamp" not in pod["metadata"]:
            found.setdefault(pod["spec"]["containers"][0]["image"].removeprefix("server:"), []).append(pod)
    return found


def has_pods(kubectl: Kubectl, name: str, *releases: str) -> Callable[[], bool]:
    """Whether the pods of an endpoint are of exactly these releases."""
    return lambda: set(pods(kubectl, name)) == set(releases)


def finish(kubectl: Kubectl, name: str, release: str, status: Manifest = RUNNING) -> None:
    """Give the one pod of a release this status, once it exists."""
    found = wait_for(lambda: pods(kubectl, name).get(release), f"{name} has a pod of release {release}")
    play_kubelet(kubectl, found[0]["metadata"]["name"], status)


def up_to_date(kubectl: Kubectl, name: str, reason: str, *words: str) -> Callable[[], Manifest | None]:
    """The condition UpToDate, once it has this reason and its message contains these texts."""

    def ask() -> Manifest | None:
        found = condition(kubectl.get("iep", name), "UpToDate")
        return found if found.get("reason") == reason and all(word in found["message"] for word in words) else None

    return ask


def serve(kubectl: Kubectl, *names: str, **spec: object) -> None:
    """Endpoints whose pods are ready. An operator of release 1 runs."""
    for name in names:
        kubectl.apply(endpoint(name, **spec))
    for name in names:
        finish(kubectl, name, "1")
    for name in names:
        wait_for(reason_is(kubectl, "Ready", name), f"{name} is ready")


def test_an_upgrade_replaces_the_pods_of_one_endpoint_after_the_other(kubectl: Kubectl, run: Run) -> None:
    with run(1):
        serve(kubectl, "a", "b")
        kubectl.apply(endpoint("zero", replicas=0))
        wait_for(up_to_date(kubectl, "zero", "Current"), "the endpoint at zero has a Deployment")
    with run(2):
        wait_for(has_pods(kubectl, "a", "1", "2"), "the first endpoint begins")
        wait_for(up_to_date(kubectl, "a", "Upgrading"), "the first endpoint says so")
        wait_for(
            up_to_date(kubectl, "b", "Waiting", f"{kubectl.namespace}/a"), "the second names the endpoint before it"
        )
        wait_for(up_to_date(kubectl, "zero", "Current"), "the endpoint at zero does not wait")
        assert set(pods(kubectl, "b")) == {"1"}
        for name in ("a", "b"):
            finish(kubectl, name, "2")
            wait_for(up_to_date(kubectl, name, "Current"), f"{name} is up to date")
            assert set(pods(kubectl, name)) == {"2"}
    assert "UPTODATE" in kubectl.run("get", "iep", "-o", "wide").splitlines()[0]


def test_an_image_that_cannot_start_stops_the_upgrade_and_a_rollback_repairs_it(kubectl: Kubectl, run: Run) -> None:
    with run(1):
        serve(kubectl, "a", "b")
    untouched = (kubectl.get("deployment", "b") or {})["metadata"]["generation"]
    for _ in range(2):
        with run(2):
            finish(kubectl, "a", "2", UNPULLED)
            wait_for(up_to_date(kubectl, "a", "UpgradeFailed", "ImageNotFound"), "the first says why it fails")
            wait_for(
                up_to_date(kubectl, "b", "Stopped", f"{kubectl.namespace}/a", "ImageNotFound"),
                "the second names the failed endpoint",
            )
            wait_for(reason_is(kubectl, "Degraded", "a"), "the previous pod still serves")
            assert set(pods(kubectl, "a")) == {"1", "2"}
    with run(1):
        for name in ("a", "b"):
            wait_for(up_to_date(kubectl, name, "Current"), f"{name} is up to date")
        wait_for(reason_is(kubectl, "Ready", "a"), "the first endpoint is ready")
        assert set(pods(kubectl, "a")) == {"1"}
    found = kubectl.get("deployment", "b") or {}
    assert found["metadata"]["generation"] == untouched, "the second endpoint was never changed"


def test_on_change_and_manual_keep_the_template_and_everything_else_follows(kubectl: Kubectl, run: Run) -> None:
    with run(1):
        serve(kubectl, "a", "b")
    kubectl.patch("iep", "b", {"spec": {"upgrade": {"mode": "Manual"}}})
    with run(2, "--upgrade-mode", "OnChange"):
        wait_for(up_to_date(kubectl, "a", "OnChange"), "the first keeps its template")
        wait_for(up_to_date(kubectl, "b", "ApprovalRequired", "forebay.dev/upgrade"), "the second needs an approval")
        kubectl.patch("iep", "a", {"spec": {"replicas": 2}})
        wait_for(lambda: [len(each) for each in pods(kubectl, "a").values()] == [2], "the first endpoint scales")
        assert set(pods(kubectl, "a")) == {"1"}
        kubectl.run("annotate", "iep", "b", "forebay.dev/upgrade=today")
        finish(kubectl, "b", "2")
        wait_for(up_to_date(kubectl, "b", "Current"), "the second is up to date")
        kubectl.patch("iep", "a", {"spec": {"replicas": 1, "env": [{"name": "MAX_MODEL_LEN", "value": "8"}]}})
        finish(kubectl, "a", "2")
        wait_for(up_to_date(kubectl, "a", "Current"), "the first is up to date")


def test_only_the_leader_of_two_releases_renders_templates(kubectl: Kubectl, run: Run) -> None:
    first_port, second_port = free_ports(2)
    with run(1, port=first_port) as first:
        wait_for(lambda: leads(first_port), "the first operator is leading")
        with run(2, port=second_port):
            wait_for(lambda: stands_by(second_port), "the second operator is on standby")
            serve(kubectl, "a", "b")
            kubectl.patch("iep", "b", {"spec": {"env": [{"name": "MAX_MODEL_LEN", "value": "8"}]}})
            wait_for(lambda: len(pods(kubectl, "b").get("1", [])) == 2, "the leader rolls out the change")
            assert set(pods(kubectl, "a")) | set(pods(kubectl, "b")) == {"1"}
            first.terminate()
            finish(kubectl, "a", "2")
            wait_for(up_to_date(kubectl, "a", "Current"), "the other release upgrades")
