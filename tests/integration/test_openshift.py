"""The operator under OpenShift's rules, which are policies of the API server here."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.endpoints import endpoint
from tests.integration.operator_process import give_chart_access, running_operator
from tests.kubectl import Kubectl, Manifest, Refused, condition, wait_for
from tests.openshift import FIRST_USER, RESTRICTED, knows_rules, openshift_rules


@dataclass
class Project:
    """A namespace under the rules, and the operators of two installations, with and without openshift.enabled."""

    kubectl: Kubectl
    system: Kubectl
    plain: Kubectl
    openshift: Kubectl


@pytest.fixture(scope="module")
def project(control_plane: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    if not knows_rules(control_plane):
        pytest.skip("mutating policies are new in Kubernetes 1.36")
    folder, mark = tmp_path_factory.mktemp("openshift"), uuid.uuid4().hex[:8]
    system, kubectl = control_plane.within(f"openshift-system-{mark}"), control_plane.within(f"project-{mark}")
    for each in (system, kubectl):
        each.run("create", "namespace", each.namespace)
    names = "plain", "openshift"
    values = {"plain": (), "openshift": ("--set=openshift.enabled=true",)}
    accesses = [
        give_chart_access(
            system, folder / name, name, "templates/rbac.yaml", f"--set=fullnameOverride={name}", *values[name]
        )
        for name in names
    ]
    with openshift_rules(control_plane, kubectl.namespace):
        yield Project(kubectl, system, *accesses)


def slice_of(namespace: str) -> Manifest:
    labels = {"kubernetes.io/service-name": "one", "endpointslice.kubernetes.io/managed-by": "gateway.forebay.dev"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "one-gateway", "namespace": namespace, "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.7"]}],
        "ports": [{"name": "http", "port": 20000, "protocol": "TCP"}],
    }


def test_slices_need_the_permission_of_the_value(project: Project) -> None:
    wanted = slice_of(project.kubectl.namespace)
    own = "--server-side", "--field-manager=forebay"

    def is_refused() -> bool:
        """The API server needs a moment to know a new policy."""
        try:
            project.plain.within(project.kubectl.namespace).apply(wanted, *own, "--dry-run=server")
        except Refused as error:
            return RESTRICTED in str(error)
        return False

    wait_for(is_refused, "the policy holds")
    applied = project.openshift.within(project.kubectl.namespace).apply(wanted, *own)
    assert applied["endpoints"][0]["addresses"] == ["10.244.0.7"]


def test_pods_run_as_a_user_of_their_namespace(project: Project, tmp_path: Path) -> None:
    kubectl = project.kubectl
    options = f"--namespace={project.system.namespace}", f"--watch-namespaces={kubectl.namespace}"

    def reason() -> str:
        return str(condition(kubectl.get("iep", "one"), "Ready").get("reason", ""))

    with running_operator(project.openshift, tmp_path / "fixed", *options):
        kubectl.apply(endpoint())
        wait_for(lambda: reason() == "AdmissionRefused", "the user 2000 is refused")
        assert kubectl.list("pods") == []
    with running_operator(project.openshift, tmp_path / "free", *options, '--pod-ids={"runAsGroup": 0}'):
        (pod,) = wait_for(lambda: kubectl.list("pods") or None, "a pod is created")
        context = pod["spec"]["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (FIRST_USER, 0, FIRST_USER)
        assert context["runAsNonRoot"]
        for replicas in (0, 1):
            kubectl.run("scale", "iep/one", f"--replicas={replicas}")
            wait_for(lambda wanted=replicas: len(kubectl.list("pods")) == wanted, f"{replicas} pods")  # type: ignore[misc]
        (other,) = kubectl.list("pods")
        assert other["metadata"]["uid"] != pod["metadata"]["uid"]
        deployment = kubectl.get("deployment", "one") or {}
        assert deployment["metadata"]["generation"] <= 5, "the operator does not fight the policy"
