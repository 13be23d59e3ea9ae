"""OpenShift's rules, as policies of the API server.

Users of pods are in the range of their namespace. Only clients with the permission for `endpointslices/restricted`
write EndpointSlices with addresses of pods.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.endpoints import endpoint
from tests.integration.operator_process import give_chart_access, running_operator
from tests.kubectl import Kubectl, Manifest, Refused, condition, wait_for

FIRST_USER, LAST_USER = 1000800000, 1000809999
POLICY = "forebay-test-openshift"
REGISTRATION = "admissionregistration.k8s.io/v1"


def policy(kind: str, group: str, resource: str, content: Manifest) -> Manifest:
    """A policy for an object of a kind when it is created."""
    rules = [
        {"apiGroups": [group], "apiVersions": ["v1"], "resources": [resource], "operations": ["CREATE"]},
    ]
    spec = {"matchConstraints": {"resourceRules": rules}, **content}
    return {"apiVersion": REGISTRATION, "kind": kind, "metadata": {"name": f"{POLICY}-{resource}"}, "spec": spec}


def binding(kind: str, resource: str, namespace: str, **spec: object) -> Manifest:
    """The policy holds in one namespace."""
    selected = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    whole = {"policyName": f"{POLICY}-{resource}", "matchResources": selected, **spec}
    return {"apiVersion": REGISTRATION, "kind": kind, "metadata": {"name": f"{POLICY}-{resource}"}, "spec": whole}


def rules(namespace: str) -> list[Manifest]:
    """What restricted-v2 does: it gives pods without a user one of the range, and refuses others."""
    context = f"Object.spec.securityContext{{runAsUser: {FIRST_USER}, fsGroup: {FIRST_USER}}}"
    changed = f"Object{{spec: Object.spec{{securityContext: {context}}}}}"
    mutation = f"has(object.spec.securityContext.runAsUser) ? Object{{}} : {changed}"
    user, group = (f"object.spec.securityContext.{name}" for name in ("runAsUser", "fsGroup"))
    in_range = f"has({user}) && {user} >= {FIRST_USER} && {user} <= {LAST_USER} && {group} == {FIRST_USER}"
    message = f"runAsUser must be in the ranges: [{FIRST_USER}, {LAST_USER}]"
    restricted = (
        "authorizer.group('discovery.k8s.io').resource('endpointslices').subresource('restricted')"
        ".namespace(request.namespace).check('create').allowed()"
    )
    return [
        policy(
            "MutatingAdmissionPolicy",
            "",
            "pods",
            {
                "reinvocationPolicy": "Never",
                "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": mutation}}],
            },
        ),
        binding("MutatingAdmissionPolicyBinding", "pods", namespace),
        policy(
            "ValidatingAdmissionPolicy", "", "pods", {"validations": [{"expression": in_range, "message": message}]}
        ),
        binding("ValidatingAdmissionPolicyBinding", "pods", namespace, validationActions=["Deny"]),
        policy(
            "ValidatingAdmissionPolicy",
            "discovery.k8s.io",
            "endpointslices",
            {"validations": [{"expression": restricted, "message": "endpoint addresses are restricted"}]},
        ),
        binding("ValidatingAdmissionPolicyBinding", "endpointslices", namespace, validationActions=["Deny"]),
    ]


@dataclass
class Project:
    """A namespace under the rules, and the operators of two installations, with and without openshift.enabled."""

    kubectl: Kubectl
    system: Kubectl
    plain: Kubectl
    openshift: Kubectl


@pytest.fixture(scope="module")
def project(control_plane: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder, mark = tmp_path_factory.mktemp("openshift"), uuid.uuid4().hex[:8]
    system, kubectl = control_plane.within(f"openshift-system-{mark}"), control_plane.within(f"project-{mark}")
    for each in (system, kubectl):
        each.run("create", "namespace", each.namespace)
    made = rules(kubectl.namespace)
    for rule in made:
        control_plane.within("").apply(rule)
    names = "plain", "openshift"
    values = {"plain": (), "openshift": ("--set=openshift.enabled=true",)}
    accesses = [
        give_chart_access(
            system, folder / name, name, "templates/rbac.yaml", f"--set=fullnameOverride={name}", *values[name]
        )
        for name in names
    ]
    yield Project(kubectl, system, *accesses)
    for rule in made:
        control_plane.within("").run("delete", rule["kind"], rule["metadata"]["name"])


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
            return "endpoint addresses are restricted" in str(error)
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
