"""OpenShift's rules, as policies of an API server.

Users of pods are in the range of their namespace, as the SCC restricted-v2 wants it. Only clients with the permission
for `endpointslices/restricted` write EndpointSlices with addresses of pods.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.kubectl import Kubectl, Manifest, wait_for

FIRST_USER, LAST_USER = 1000800000, 1000809999
RESTRICTED = "endpoint addresses are restricted"
"""The message for a slice of a client without the permission."""

PROBE: Manifest = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "a",
            "image": "a",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}
"""A pod without a user that the Pod Security Standard "restricted" allows."""

POLICY = "forebay-test-openshift"
REGISTRATION = "admissionregistration.k8s.io/v1"


def policy(kind: str, group: str, resource: str, content: Manifest) -> Manifest:
    """A policy for an object of a kind when it is created."""
    rules = [
        {"apiGroups": [group], "apiVersions": ["v1"], "resources": [resource], "operations": ["CREATE"]},
    ]
    spec = {"matchConstraints": {"resourceRules": rules}, **content}
    return {"apiVersion": REGISTRATION, "kind": kind, "metadata": {"name": f"{POLICY}-{resource}"}, "spec": spec}


def binding(kind: str, resource: str, namespaces: Sequence[str], **spec: object) -> Manifest:
    """Build the binding of a policy to these namespaces."""
    chosen = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(namespaces)}
    selected = {"namespaceSelector": {"matchExpressions": [chosen]}}
    whole = {"policyName": f"{POLICY}-{resource}", "matchResources": selected, **spec}
    return {"apiVersion": REGISTRATION, "kind": kind, "metadata": {"name": f"{POLICY}-{resource}"}, "spec": whole}


def rules(namespaces: Sequence[str]) -> list[Manifest]:
    """Build the policies of restricted-v2: they give pods without a user one of the range, and refuse other users."""
    context = f"Object.spec.securityContext{{runAsUser: {FIRST_USER}, fsGroup: {FIRST_USER}}}"
    changed = f"Object{{spec: Object.spec{{securityContext: {context}}}}}"
    mutation = f"has(object.spec.securityContext.runAsUser) ? Object{{}} : {changed}"
    user, group = (f"object.spec.securityContext.{name}" for name in ("runAsUser", "fsGroup"))
    in_range = f"has({user}) && {user} >= {FIRST_USER} && {user} <= {LAST_USER} && {group} == {FIRST_USER}"
    message = f"runAsUser must be in the ranges: [{FIRST_USER}, {LAST_USER}]"
    foreign = "!request.userInfo.username.startsWith('system:serviceaccount:kube-system:')"
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
        binding("MutatingAdmissionPolicyBinding", "pods", namespaces),
        policy(
            "ValidatingAdmissionPolicy", "", "pods", {"validations": [{"expression": in_range, "message": message}]}
        ),
        binding("ValidatingAdmissionPolicyBinding", "pods", namespaces, validationActions=["Deny"]),
        policy(
            "ValidatingAdmissionPolicy",
            "discovery.k8s.io",
            "endpointslices",
            {
                "matchConditions": [{"name": "not-kubernetes-own", "expression": foreign}],
                "validations": [{"expression": restricted, "message": RESTRICTED}],
            },
        ),
        binding("ValidatingAdmissionPolicyBinding", "endpointslices", namespaces, validationActions=["Deny"]),
    ]


def knows_rules(admin: Kubectl) -> bool:
    """Whether the API server has mutating policies, which are new in Kubernetes 1.36."""
    return "mutatingadmissionpolicies" in admin.run("get", "--raw", f"/apis/{REGISTRATION}")


@contextmanager
def openshift_rules(admin: Kubectl, *namespaces: str) -> Iterator[None]:
    """Apply the rules to these namespaces until the context ends."""
    everywhere, made = admin.within(""), rules(namespaces)
    probe = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": PROBE}

    def gives_user(namespace: str) -> bool:
        found = admin.within(namespace).apply(probe, "--dry-run=server")
        return bool(found["spec"]["securityContext"].get("runAsUser") == FIRST_USER)

    try:
        for rule in made:
            everywhere.apply(rule)
        for namespace in namespaces:
            wait_for(lambda name=namespace: gives_user(name), f"pods of {namespace} get a user")  # type: ignore[misc]
        yield
    finally:
        for rule in made:
            everywhere.run("delete", rule["kind"], rule["metadata"]["name"], "--ignore-not-found")
