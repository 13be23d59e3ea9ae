"""The operator's account may write only objects that belong to an endpoint. The chart's admission
policy says so, to a real API server."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from forebay_kube.api_client import ApiClient, ApiServerError
from tests.endpoints import endpoint
from tests.integration.kubernetes_client import connect
from tests.kubectl import Kubectl, Manifest, wait_for

POD = {"containers": [{"name": "server", "image": "own:1"}]}
TEMPLATE = {"metadata": {"labels": {"own": "yes"}}, "spec": POD}
LABELS = {"app.kubernetes.io/managed-by": "forebay", "forebay.dev/endpoint": "one"}

OTHERS: dict[str, Manifest] = {
    "deployment": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {"replicas": 0, "selector": {"matchLabels": {"own": "yes"}}, "template": TEMPLATE},
    },
    "service": {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]}},
    "endpointslice": {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "endpoints": [],
    },
    "poddisruptionbudget": {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"own": "yes"}}},
    },
    "networkpolicy": {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {"podSelector": {}}},
    "persistentvolumeclaim": {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    },
}
"""Objects of a user, of every kind that the operator writes."""

PATHS = {
    "deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "service": "/api/v1/namespaces/{}/services",
    "endpointslice": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
    "poddisruptionbudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "networkpolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "persistentvolumeclaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "pod": "/api/v1/namespaces/{}/pods",
    "secret": "/api/v1/namespaces/{}/secrets",
    "event": "/api/v1/namespaces/{}/events",
    "endpoint": "/apis/forebay.dev/v1alpha1/namespaces/{}/inferenceendpoints",
}


@dataclass
class Thief:
    """A thief that has the operator's token."""

    api: ApiClient
    namespace: str

    async def is_stopped(self, method: str, kind: str, name: str = "", body: Manifest | None = None) -> bool:
        """Whether the policy refuses a request; what anything else refuses is an error of the test's."""
        path = f"{PATHS[kind].format(self.namespace)}/{name}".rstrip("/")
        merge = "merge-patch" if kind == "endpoint" else "strategic-merge-patch"
        how = f"application/{merge}+json" if method == "PATCH" else "application/json"
        try:
            await self.api.request(method, path, body, content_type=how)
        except ApiServerError as error:
            if "ValidatingAdmissionPolicy" not in error.message:
                raise
            return True
        return False


@pytest.fixture
async def thief(operators_kubectl: Kubectl, kubectl: Kubectl) -> AsyncIterator[Thief]:
    """A thief in the test's namespace, once the policy applies there."""
    api = ApiClient(await connect(operators_kubectl.kubeconfig))
    found = Thief(api, kubectl.namespace)
    async with asyncio.timeout(60):  # the API server follows its policies by a watch of its own
        while not await found.is_stopped("POST", "secret", body={"metadata": {"generateName": "x"}}):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    yield found
    await api.close()


@pytest.mark.parametrize("kind", OTHERS)
async def test_the_operator_may_not_change_an_object_of_a_user(thief: Thief, kubectl: Kubectl, kind: str) -> None:
    kubectl.apply({**OTHERS[kind], "metadata": {"name": "own"}})
    owner = {"apiVersion": "forebay.dev/v1alpha1", "kind": "InferenceEndpoint", "name": "x", "uid": "x"}
    for change in ({"labels": LABELS}, {"labels": LABELS, "ownerReferences": [{**owner, "controller": True}]}):
        assert await thief.is_stopped("PATCH", kind, "own", {"metadata": change})
    found = kubectl.get(kind, "own")
    assert found
    assert "labels" not in found["metadata"]


@pytest.mark.parametrize("kind", OTHERS)
async def test_the_operator_may_not_create_an_object_without_an_owner(thief: Thief, kind: str) -> None:
    assert await thief.is_stopped("POST", kind, body={**OTHERS[kind], "metadata": {"name": "new", "labels": LABELS}})


@pytest.mark.parametrize("name", ["one-api-key", "one-control", "forebay-gateway", "forebay-valkey", "own"])
async def test_the_operator_may_create_no_other_secret(thief: Thief, name: str) -> None:
    assert await thief.is_stopped("POST", "secret", body={"metadata": {"name": name, "labels": LABELS}})


async def test_the_operator_may_record_no_event_of_another_object(thief: Thief) -> None:
    about = {"apiVersion": "v1", "kind": "Pod", "name": "x", "namespace": thief.namespace}
    assert await thief.is_stopped("POST", "event", body={"metadata": {"name": "x"}, "involvedObject": about})


async def test_the_operator_may_write_only_the_deletion_cost_of_a_pod(thief: Thief, kubectl: Kubectl) -> None:
    for name, labels in (("ours", LABELS), ("another", {"own": "yes"})):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": POD}
        kubectl.apply({**pod, "spec": {**POD, "automountServiceAccountToken": False}})
    for number in ("-1", "5"):
        cost = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": number}}}
        assert not await thief.is_stopped("PATCH", "pod", "ours", cost)
        assert await thief.is_stopped("PATCH", "pod", "another", cost)
    for change in (
        {"spec": {"containers": [{"name": "server", "image": "thief:1"}]}},
        {"metadata": {"annotations": {"forebay.dev/other": "x"}}},
        {"metadata": {"labels": {"app.kubernetes.io/name": "prometheus"}}},
        {"metadata": {"labels": {"forebay.dev/endpoint": None}}},
        {"metadata": {"finalizers": ["forebay.dev/x"]}},
    ):
        assert await thief.is_stopped("PATCH", "pod", "ours", change), change


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"image": "thief:1"}},
        {"spec": {"replicas": 7}},
        {"metadata": {"labels": {"team": "thieves"}}},
        {"metadata": {"annotations": {"note": "x"}}},
        {"metadata": {"finalizers": ["forebay.dev/x"]}},
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x"}]}},
    ],
    ids=["image", "replicas", "labels", "annotations", "finalizers", "owners"],
)
async def test_the_operator_may_not_change_the_spec_of_an_endpoint(
    thief: Thief, kubectl: Kubectl, change: Manifest
) -> None:
    kubectl.apply(endpoint("one", replicas=1))
    assert await thief.is_stopped("PATCH", "endpoint", "one", change)
    kubectl.run("label", "iep", "one", "team=own")
    assert await thief.is_stopped("PATCH", "endpoint", "one", {"metadata": {"labels": {"team": None}}})
    assert not await thief.is_stopped("PATCH", "endpoint", "one", {"metadata": {"managedFields": [{}]}})


SERVER = {"name": "server", "securityContext": {"allowPrivilegeEscalation": True}}


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"ownerReferences": [{"$patch": "replace"}]}},
        {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}},
        {"spec": {"template": {"spec": {"hostNetwork": True}}}},
        {"spec": {"template": {"spec": {"automountServiceAccountToken": True}}}},
        {"spec": {"template": {"spec": {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}}}},
        {"spec": {"template": {"spec": {"containers": [SERVER]}}}},
        {"spec": {"template": {"spec": {"initContainers": [{"name": "x", "image": "x"}]}}}},
    ],
    ids=["owner", "label", "host's network", "token", "host's files", "escalation", "another container"],
)
async def test_the_pods_of_an_endpoint_get_no_permissions(
    operator: Path, thief: Thief, kubectl: Kubectl, change: Manifest
) -> None:
    kubectl.apply(endpoint("one"))
    made = wait_for(lambda: kubectl.get("deployment", "one"), "the operator creates the children")
    assert made["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    assert await thief.is_stopped("PATCH", "deployment", "one", change)


async def test_the_operator_may_not_delete_a_claim_of_another_owner(thief: Thief, kubectl: Kubectl) -> None:
    kubectl.apply({**OTHERS["persistentvolumeclaim"], "metadata": {"name": "own"}})
    assert await thief.is_stopped("DELETE", "persistentvolumeclaim", "own")
