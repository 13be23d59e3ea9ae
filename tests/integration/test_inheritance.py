"""Children get the endpoint's labels that the operator's settings list, by the operator as a process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.endpoints import endpoint, exists
from tests.integration.httproutes import HTTPROUTES, httproute_crd
from tests.integration.kubelet import newest_pod
from tests.integration.operator_process import running_operator
from tests.kubectl import Kubectl, Manifest, condition, install_crd, wait_for

CHILDREN = [
    ("deployment", "one"),
    ("service", "one"),
    ("pdb", "one"),
    ("networkpolicy", "one"),
    ("pvc", "one-cache"),
    ("httproute", "one"),
    ("endpointslice", "one-gateway"),
]
"""The children whose labels follow the endpoint."""

SECRETS = [("secret", "one-api-key"), ("secret", "one-control")]
"""Children that get labels at their creation only."""


@pytest.fixture(scope="module", autouse=True)
def operator(
    control_plane: Kubectl, operators_kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """An operator with lists, and the Gateway API."""
    install_crd(control_plane, httproute_crd(), HTTPROUTES, "--server-side")
    log = tmp_path_factory.mktemp("operator") / "log"
    flags = "--inherit-labels=team,example.com/*", "--inherit-annotations=note", "--gateway-service=forebay-gateway"
    with running_operator(operators_kubectl, log, *flags):
        yield log
    assert "Traceback" not in log.read_text()


def metadata_of(kubectl: Kubectl, kind: str, name: str) -> Manifest:
    return dict((kubectl.get(kind, name) or {}).get("metadata") or {})


def all_have(kubectl: Kubectl, team: str | None, *, note: str | None = "n") -> Callable[[], bool]:
    def ask() -> bool:
        found = [metadata_of(kubectl, *child) for child in CHILDREN]
        return all(
            each.get("labels", {}).get("team") == team and each.get("annotations", {}).get("note") == note
            for each in found
            if each
        ) and all(found)

    return ask


def template(kubectl: Kubectl) -> Manifest:
    deployment = kubectl.get("deployment", "one")
    assert deployment
    return dict(deployment["spec"]["template"])


def test_children_follow_the_endpoints_labels_and_pods_with_the_next_rollout(kubectl: Kubectl, operator: Path) -> None:
    manifest = endpoint(cache={"size": "1Gi"}, route={"parentRefs": [{"name": "public"}]}, auth={"mode": "APIKey"})
    labels = {"team": "a", "example.com/cost": "7", "app.kubernetes.io/instance": "argo", "other": "x"}
    manifest["metadata"] |= {"labels": labels, "annotations": {"note": "n", "other": "x"}}
    kubectl.apply(manifest)
    wait_for(all_have(kubectl, "a"), "every child has the label")
    for child in CHILDREN + SECRETS:
        found = metadata_of(kubectl, *child)["labels"]
        assert (found["team"], found["example.com/cost"]) == ("a", "7"), child
        assert not {"other", "app.kubernetes.io/instance"} & found.keys(), child
    pod = kubectl.get("pod", newest_pod(kubectl)) or {}
    assert (pod["metadata"]["labels"]["team"], pod["metadata"]["annotations"]["note"]) == ("a", "n")
    before = template(kubectl)

    kubectl.run("label", "iep/one", "team=b", "--overwrite")
    wait_for(all_have(kubectl, "b"), "every child has the new label")
    assert template(kubectl) == before, "the pods did not restart"
    assert [each["metadata"]["name"] for each in kubectl.list("pods")] == [pod["metadata"]["name"]]

    kubectl.patch("iep", "one", {"spec": {"args": ["--seed=1"]}})
    wait_for(lambda: template(kubectl) != before, "a change of the spec is rolled out")
    assert template(kubectl)["metadata"]["labels"]["team"] == "b"
    before = template(kubectl)

    kubectl.run("label", "iep/one", "team-")
    kubectl.run("annotate", "iep/one", "note-")
    wait_for(all_have(kubectl, None, note=None), "no child has the label or the annotation")
    assert template(kubectl) == before, "the pods did not restart"
    assert all(metadata_of(kubectl, *secret)["labels"]["team"] == "a" for secret in SECRETS)

    kubectl.patch("iep", "one", {"spec": {"replicas": 0}})
    wait_for(lambda: "team" not in template(kubectl)["metadata"]["labels"], "without pods the template follows")
    writes = operator.read_text().count(f"applied Deployment {kubectl.namespace}/one\n")
    assert writes in range(5, 9), "no write loop"


def test_an_added_label_reaches_an_endpoint_that_had_none(kubectl: Kubectl) -> None:
    kubectl.apply(endpoint())
    wait_for(exists(kubectl, "endpointslice", "one-gateway"), "the slice exists")
    wait_for(lambda: condition(kubectl.get("iep", "one"), "Ready").get("reason") == "Scheduling", "the pod waits")
    before = template(kubectl)
    kubectl.run("label", "iep/one", "example.com/team=a")

    def follow() -> bool:
        names = [child for child in CHILDREN if child[0] not in ("pvc", "httproute")]
        return all(metadata_of(kubectl, *child)["labels"].get("example.com/team") == "a" for child in names)

    wait_for(follow, "every child has the label")
    assert template(kubectl) == before
