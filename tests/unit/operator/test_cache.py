"""The cached fields of an object, and the changes that count as news."""

import json
from typing import Any

import pytest

from forebay_operator.apiserver.cache import Cache, CachedObject, Store, pack

Manifest = dict[str, Any]
ONE = ("a", "one")


def build(kind: str, **fields: Any) -> Manifest:
    metadata = {"name": "one", "namespace": "a", "uid": "u", "resourceVersion": "1", **fields.pop("metadata", {})}
    return {"kind": kind, "metadata": metadata, "spec": {"containers": [{"name": "server"}]}, **fields}


def status_of(manager: str, time: str = "1") -> Manifest:
    return {"manager": manager, "operation": "Apply", "subresource": "status", "time": time}


NEWS: dict[str, tuple[Manifest, Manifest, bool]] = {
    "a version": (build("Pod"), build("Pod", metadata={"resourceVersion": "2"}), False),
    "a pod's phase": (build("Pod"), build("Pod", status={"phase": "Running"}), True),
    "how many pods a Deployment has": (build("Deployment"), build("Deployment", status={"readyReplicas": 1}), False),
    "a Deployment's condition": (
        build("Deployment"),
        build("Deployment", status={"conditions": [{"type": "Progressing", "status": "True"}]}),
        True,
    ),
    "when a condition was looked at": (
        build("Deployment", status={"conditions": [{"type": "Progressing", "lastUpdateTime": "1"}]}),
        build("Deployment", status={"conditions": [{"type": "Progressing", "lastUpdateTime": "2"}]}),
        False,
    ),
    "an endpoint's spec": (build("InferenceEndpoint"), build("InferenceEndpoint", spec={"replicas": 2}), True),
    "a status that we wrote": (
        build("InferenceEndpoint"),
        build("InferenceEndpoint", status={"url": "a"}, metadata={"managedFields": [status_of("forebay")]}),
        False,
    ),
    "a status that somebody else wrote": (
        build("InferenceEndpoint"),
        build("InferenceEndpoint", status={"url": "a"}, metadata={"managedFields": [status_of("kubectl-edit")]}),
        True,
    ),
    "a status that somebody else wrote again": (
        build("InferenceEndpoint", metadata={"managedFields": [status_of("kubectl-edit")]}),
        build("InferenceEndpoint", metadata={"managedFields": [status_of("kubectl-edit", "2")]}),
        True,
    ),
}


@pytest.mark.parametrize(("before", "after", "new"), NEWS.values(), ids=NEWS)
def test_relevant_changes_are_news(before: Manifest, after: Manifest, new: bool) -> None:
    assert (pack(before)[1] != pack(after)[1]) is new


def test_an_endpoint_keeps_its_version_and_status() -> None:
    store = Store()
    store.put(
        CachedObject.of(
            build("InferenceEndpoint", status={"url": "a"}, metadata={"managedFields": [status_of("forebay")]})
        )
    )
    kept = Cache(store, {}, {}, {}).endpoint(ONE)
    assert kept
    assert (kept["status"], kept["metadata"]["resourceVersion"]) == ({"url": "a"}, "1")
    assert "managedFields" not in kept["metadata"]


def test_the_field_manager_of_an_endpoint_is_cached_and_is_no_news() -> None:
    applied = {"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {}}}
    made = build("InferenceEndpoint", metadata={"managedFields": [applied, status_of("forebay")]})
    packed, news = pack(made)
    assert json.loads(packed)["metadata"]["managedFields"] == [{"manager": "kubectl", "operation": "Apply"}]
    assert news == pack(build("InferenceEndpoint"))[1]


def test_the_last_applied_annotation_is_not_cached() -> None:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "a"}
    kept = json.loads(pack(build("Service", metadata={"annotations": annotations}))[0])
    assert kept["metadata"]["annotations"] == {"team": "a"}


def test_a_store_names_the_endpoint_of_each_change() -> None:
    store, pod = Store(), build("Pod", metadata={"name": "one-x", "labels": {"forebay.dev/endpoint": "one"}})
    assert [store.put(CachedObject.of(each)) for each in (pod, pod, {**pod, "status": {"phase": "Running"}})] == [
        ONE,
        None,
        ONE,
    ]
    assert [found["status"] for found in store[ONE]] == [{"phase": "Running"}]
    assert (store.drop(("a", "one-x"), "another uid"), len(store)) == (None, 1)
    assert (store.drop(("a", "one-x"), "u"), len(store), set(store.names)) == (ONE, 0, set())


def test_a_recreated_object_is_news_and_one_without_an_owner_is_not() -> None:
    store = Store()
    assert store.put(CachedObject.of(build("InferenceEndpoint"))) == ONE
    assert store.put(CachedObject.of(build("InferenceEndpoint", metadata={"uid": "another"}))) == ONE
    stray = build("Pod", metadata={"name": "stray"})
    pods = Store()
    assert (pods.put(CachedObject.of(stray)), set(pods), set(pods.names)) == (None, set(), {("a", "stray")})
