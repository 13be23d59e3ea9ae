"""Users who may view, edit or administer a namespace may do the same with its endpoints, and no more than with pods."""

import subprocess
from collections.abc import Callable

import pytest

from tests.endpoints import endpoint, start
from tests.integration.kubelet import newest_pod
from tests.integration.operator_process import CHART
from tests.kubectl import Kubectl, Refused, wait_for

READ = ("get", "list", "watch")
WRITE = ("create", "update", "patch", "delete", "deletecollection")
ENDPOINTS = "inferenceendpoints.forebay.dev"
SCALE, STATUS = f"{ENDPOINTS}/scale", f"{ENDPOINTS}/status"


def rights(kubectl: Kubectl, user: str) -> dict[str, set[str]]:
    """The verbs that a user may use on endpoints in the namespace, by resource."""
    found: dict[str, set[str]] = {}
    for line in kubectl.run("auth", "can-i", "--list", "--no-headers", f"--as={user}").splitlines():
        resource = line.split()[0]
        if resource.partition("/")[0] == ENDPOINTS:
            found.setdefault(resource, set()).update(line[line.rindex("[") :].strip(" []").split())
    return found


def has_rights(kubectl: Kubectl, user: str, expected: dict[str, set[str]]) -> Callable[[], bool]:
    return lambda: rights(kubectl, user) == expected


@pytest.fixture
def people(kubectl: Kubectl) -> Kubectl:
    """The chart's roles for people, and three of them in the namespace: view, edit and admin."""
    helm = [str(kubectl.binary.parent / "helm"), "template", "forebay", str(CHART), "--set=image.repository=unused"]
    command = [*helm, "--show-only=templates/users.yaml"]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True)
    kubectl.run("apply", "-f", "-", stdin=rendered.stdout)
    for role in ("view", "edit", "admin"):
        kubectl.run("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}")
    return kubectl


def test_view_edit_and_admin_get_matching_permissions_on_endpoints(people: Kubectl) -> None:
    reading = {resource: set(READ) for resource in (ENDPOINTS, SCALE, STATUS)}
    changing = {ENDPOINTS: {*READ, *WRITE}, SCALE: {*READ, "update", "patch"}, STATUS: set(READ)}
    for user, expected in (("view", reading), ("edit", changing), ("admin", changing)):
        wait_for(has_rights(people, user, expected), f"{user} may do {expected} and no more")


FORBIDDEN_IN_PODS = [
    ("the node's files", {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}),
    ("a file server", {"volumes": [{"name": "a", "nfs": {"server": "a", "path": "/"}}]}),
    ("the node's network", {"hostNetwork": True}),
    ("the node's processes", {"hostPID": True}),
    ("a privileged server", {"securityContext": {"privileged": True}}),
    ("a user of one's own", {"runAsUser": 0}),
    ("a service account's token alone", {"automountServiceAccountToken": True}),
    ("a node by name", {"nodeName": "control-plane"}),
    ("another container", {"containers": [{"name": "a", "image": "b"}]}),
    ("one before it", {"initContainers": [{"name": "a", "image": "b"}]}),
]


@pytest.mark.parametrize("pod", [row[1] for row in FORBIDDEN_IN_PODS], ids=[row[0] for row in FORBIDDEN_IN_PODS])
def test_no_field_allows_more_than_the_restricted_pod_standard(control_plane: Kubectl, pod: dict[str, object]) -> None:
    with pytest.raises(Refused, match="unknown field"):
        control_plane.apply(endpoint(pod=pod), "--validate=strict", "--dry-run=server")


@pytest.mark.usefixtures("operator")
def test_admission_and_quota_of_a_namespace_apply_to_endpoint_pods(kubectl: Kubectl) -> None:
    """The operator's rights do not bypass them: the ReplicaSet controller creates its pods."""
    quota = {"requests.cpu": "1", "requests.memory": "1Gi", "requests.nvidia.com/gpu": "1"}
    hard = ",".join(f"{name}={value}" for name, value in quota.items())
    kubectl.run("create", "quota", "small", f"--hard={hard}")
    resources = {"requests": {"cpu": "1", "memory": "1Gi"}}
    start(kubectl, resources=resources)
    newest_pod(kubectl)
    kubectl.apply(endpoint("two", resources=resources))
    wait_for(reason(kubectl, "two", "QuotaExceeded"), "the second pod exceeds the quota", timeout=20)


def reason(kubectl: Kubectl, name: str, expected: str) -> Callable[[], bool]:
    def ask() -> bool:
        conditions = (kubectl.get("iep", name) or {}).get("status", {}).get("conditions", ())
        return any(each["type"] == "Ready" and each["reason"] == expected for each in conditions)

    return ask
