"""The labels and annotations of an endpoint that its children get."""

import argparse
from typing import Any

import pytest

from forebay_operator.__main__ import build_parser
from forebay_operator.app import build_settings
from forebay_operator.arguments import read_inherited_keys
from forebay_operator.resources import build_deployment, build_gateway_slice, build_service, build_unwatched
from forebay_operator.resources.route import build_route
from forebay_operator.resources.secret import build_control_secret, build_key_secret
from forebay_operator.spec import Endpoint, Inheritance, Manifest, parse_endpoint
from tests.unit.operator.builders import SETTINGS, endpoint_manifest

ALLOWED = Inheritance(("team", "example.com/*"), ("note",))

GIVEN = {"team": "a", "example.com/cost": "7", "other": "x", "app.kubernetes.io/instance": "argo"}


NOTES = {"note": "n", "z": "z"}


def parse(labels: Manifest = GIVEN, annotations: Manifest = NOTES, **spec: Any) -> Endpoint:
    manifest = endpoint_manifest(**spec)
    manifest["metadata"] |= {
        "labels": labels,
        "annotations": {"note": "n", "z": "z"} if annotations is None else annotations,
    }
    return parse_endpoint(manifest, ALLOWED)


def template_of(deployment: Manifest) -> dict[str, Any]:
    return dict(deployment["spec"]["template"]["metadata"])


def test_every_child_gets_the_listed_labels_and_annotations_and_no_others() -> None:
    route = {"parentRefs": [{"name": "public"}]}
    endpoint = parse(cache={"size": "1Gi"}, route=route, service={"annotations": {"note": "own", "lb": "x"}})
    children = [
        build_deployment(endpoint, SETTINGS),
        build_service(endpoint),
        *build_unwatched(endpoint, SETTINGS),
        build_gateway_slice(endpoint, "IPv4", 30000, ()),
        build_route(endpoint, SETTINGS) or {},
        build_key_secret(endpoint),
        build_control_secret(endpoint),
    ]
    assert len({each["kind"] for each in children}) == 8
    for child in children:
        labels = child["metadata"]["labels"]
        assert (labels["team"], labels["example.com/cost"], labels["forebay.dev/endpoint"]) == ("a", "7", "one")
        assert not {"other", "app.kubernetes.io/instance"} & labels.keys()
        annotations = child["metadata"]["annotations"]
        assert annotations["note"] == ("own" if child["kind"] == "Service" else "n")
        assert "z" not in annotations


def test_without_a_list_the_children_get_nothing() -> None:
    manifest = endpoint_manifest()
    bare = build_deployment(parse_endpoint(manifest), SETTINGS)
    manifest["metadata"] |= {"labels": GIVEN, "annotations": {"note": "n"}}
    assert build_deployment(parse_endpoint(manifest), SETTINGS) == bare
    assert "forebay.dev/inherited" not in template_of(bare)["annotations"]


def test_labels_of_the_pod_field_and_of_the_operator_override_inherited_ones() -> None:
    labels = template_of(build_deployment(parse(pod={"labels": {"team": "pods"}}), SETTINGS))["labels"]
    assert (labels["team"], labels["example.com/cost"]) == ("pods", "7")
    allowed = Inheritance(("app.kubernetes.io/part-of", "app.kubernetes.io/name"))
    manifest = endpoint_manifest()
    manifest["metadata"]["labels"] = {"app.kubernetes.io/part-of": "chat", "app.kubernetes.io/name": "mine"}
    labels = build_service(parse_endpoint(manifest, allowed))["metadata"]["labels"]
    assert (labels["app.kubernetes.io/part-of"], labels["app.kubernetes.io/name"]) == ("chat", "one")


def test_a_change_of_inherited_metadata_alone_restarts_no_pod() -> None:
    before = build_deployment(parse(), SETTINGS)
    changed = {**GIVEN, "team": "b"}
    after = build_deployment(parse(changed, {}), SETTINGS, live=before)
    assert after["metadata"]["labels"]["team"] == "b"
    assert template_of(after) == template_of(before)
    again = build_deployment(parse(changed, {}), SETTINGS, live=after)
    assert again == after
    rolled = template_of(build_deployment(parse(changed, {}, args=["--seed=1"]), SETTINGS, live=again))
    assert rolled["labels"]["team"] == "b"
    assert "note" not in rolled["annotations"]


def test_a_list_that_is_set_later_restarts_no_pod() -> None:
    before = build_deployment(parse_endpoint(endpoint_manifest()), SETTINGS)
    after = build_deployment(parse(), SETTINGS, live=before)
    assert template_of(after) == template_of(before)
    assert after["metadata"]["labels"]["team"] == "a"


def test_an_endpoint_without_pods_gets_new_metadata_immediately() -> None:
    before = build_deployment(parse(replicas=0), SETTINGS)
    after = build_deployment(parse({"team": "b"}, replicas=0), SETTINGS, live=before)
    assert template_of(after)["labels"]["team"] == "b"


@pytest.mark.parametrize("damaged", ["{", "[]", '{"labels": 1}', '{"labels": {"team": 1}}', "[" * 100_000])
def test_a_damaged_record_counts_as_a_new_revision(damaged: str) -> None:
    before = build_deployment(parse(), SETTINGS)
    template_of(before)["annotations"]["forebay.dev/inherited"] = damaged
    after = build_deployment(parse({"team": "b"}), SETTINGS, live=before)
    assert template_of(after)["labels"]["team"] == "b"


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("*", "children never get all keys"),
        ("*/team", "is neither a key"),
        ("team*", "is neither a key"),
        ("a b", "is neither a key"),
        ("Example.com/team", "is neither a key"),
        ("app.kubernetes.io/instance", "Argo CD tracks objects by it, and would prune the children"),
        ("app.kubernetes.io/*", "because it includes app.kubernetes.io/instance: Argo CD tracks objects by it"),
        ("argocd.argoproj.io/instance", "Argo CD tracks"),
        ("argocd.argoproj.io/tracking-id", "Argo CD tracks"),
        ("argocd.argoproj.io/*", "Argo CD tracks"),
        ("kustomize.toolkit.fluxcd.io/name", "Flux tracks"),
        ("helm.toolkit.fluxcd.io/name", "Flux tracks"),
        ("meta.helm.sh/release-name", "Helm tracks"),
        ("applyset.kubernetes.io/part-of", "kubectl apply tracks"),
        ("kubectl.kubernetes.io/last-applied-configuration", "kubectl apply tracks"),
        ("app.kubernetes.io/name", "the operator sets it itself"),
        ("forebay.dev/*", "the operator sets it itself"),
        ("controller.kubernetes.io/pod-deletion-cost", "Kubernetes' own controllers set it"),
    ],
)
def test_keys_that_children_must_not_get_are_refused_with_the_reason(key: str, reason: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        read_inherited_keys(f"team, {key}")
    assert reason in str(refused.value)


def test_the_lists_are_settings_of_the_operator() -> None:
    flags = ["--inherit-labels=team, example.com/*,team", "--inherit-annotations=app.kubernetes.io/part-of"]
    settings = build_settings(build_parser().parse_args(flags), 37)
    assert settings.inheritance == Inheritance(("team", "example.com/*"), ("app.kubernetes.io/part-of",))
    assert build_settings(build_parser().parse_args([]), 37).inheritance == Inheritance()
