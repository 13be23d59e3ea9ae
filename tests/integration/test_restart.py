"""The operator ends on SIGTERM, and another continues where it was."""

import signal
from pathlib import Path

from cluster.tools import host_tools
from tests.endpoints import CHILDREN, endpoint, reason_is, start
from tests.integration.control_plane import start_control_plane
from tests.integration.operator_process import running_operator
from tests.kubectl import Kubectl, wait_for


def test_sigterm_ends_the_operator_and_its_successor_writes_nothing(
    kubectl: Kubectl, operators_kubectl: Kubectl, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with running_operator(operators_kubectl, log) as process:
        start(kubectl, resources={"requests": {"cpu": "0.5", "memory": "1024Mi"}})
        wait_for(
            lambda: (kubectl.get("deployment", "one") or {})["status"].get("updatedReplicas") == 1,
            "the Deployment's own controller has finished",
        )
        wait_for(reason_is(kubectl, "Scheduling"), "the endpoint waits for a node")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
    before = {kind: kubectl.get(kind, name) for kind, name in [*CHILDREN, ("iep", "one")]}
    log.write_text("")
    with running_operator(operators_kubectl, log):
        kubectl.apply(endpoint("other"))
        wait_for(reason_is(kubectl, "Scheduling", "other"), "the new operator reconciles")
        after = {kind: kubectl.get(kind, name) for kind, name in [*CHILDREN, ("iep", "one")]}
    assert after == before
    assert f"{kubectl.namespace}/one\n" not in log.read_text()


def test_without_the_crd_the_operator_exits_with_a_message(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with start_control_plane(host_tools(), tmp_path, crd=None) as bare, running_operator(bare.kubectl, log) as process:
        assert process.wait(timeout=30) == 1
    assert "the InferenceEndpoint CRD is not installed: run kubectl apply -f crds/" in log.read_text()
