"""An operator for some namespaces works there, with rights there, and nowhere else."""

from pathlib import Path

from tests.endpoints import endpoint, reason_is, start, wait_for_no_children
from tests.integration.audit import operators_requests
from tests.integration.kubelet import newest_pod, play_kubelet
from tests.integration.operator_process import give_access, running_operator
from tests.kubectl import Kubectl, wait_for


def test_an_operator_for_one_namespace_uses_no_other_namespace(
    kubectl: Kubectl, control_plane: Kubectl, tmp_path: Path
) -> None:
    watched, home = kubectl.namespace, f"{kubectl.namespace}-operator"
    other = control_plane.within(f"{watched}-other")
    other.run("create", "namespace", other.namespace)
    operators = give_access(control_plane, tmp_path / "kubeconfig", home, f"--set=watchNamespaces={{{watched}}}")
    log = tmp_path / "log"
    options = (f"--watch-namespaces={watched}", f"--namespace={home}", "--valkey-service=forebay-valkey")
    with running_operator(operators, log, *options) as process:
        other.apply(endpoint())
        start(kubectl)
        words = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
        scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
        play_kubelet(kubectl, newest_pod(kubectl), {"conditions": [scheduled]})
        wait_for(
            reason_is(kubectl, "Unschedulable"),
            "the operator may not list nodes, so it has only the scheduler's message",
        )
        kubectl.delete("deployment", "one")
        wait_for(lambda: kubectl.get("deployment", "one"), "the operator watches that namespace")
        kubectl.delete("iep", "one")
        wait_for_no_children(kubectl, "one")
        wait_for(lambda: control_plane.within(home).get("secret", "forebay-valkey"), "Valkey's password exists")
        assert process.poll() is None
    assert other.get("deployment", "one") is None
    assert (other.get("iep", "one") or {})["status"]["observedGeneration"] == -1
    requests = list(operators_requests(control_plane, home))
    assert {each.namespace for each in requests if each.code < 400} <= {watched, home, ""}
    assert {(each.resource, each.verb) for each in requests if each.code == 403} == {("nodes", "list")}
    assert "Traceback" not in log.read_text()
