"""Whether a pod template is outdated, and the fields of an endpoint's own spec that shape its pods."""

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from forebay_operator import labels
from forebay_operator.resources.deployment import build_deployment
from forebay_operator.resources.own_spec import NOT_IN_PODS, digest_own_spec
from forebay_operator.resources.template import (
    TemplateRecord,
    is_approved,
    is_outdated,
    keep_template,
    read_record,
    replace_template,
    template_revision,
)
from forebay_operator.settings import Settings
from forebay_operator.spec import Endpoint, Inherited, Manifest, parse_endpoint
from tests.unit.operator.builders import SETTINGS, endpoint_manifest
from tests.unit.operator.test_contract import SPEC, complete

NEXT = replace(SETTINGS, gpu_image="gpu:2", cpu_image="cpu:2")
"""The settings of another release."""


def parse(generation: int = 3, approval: str = "", **spec: Any) -> Endpoint:
    manifest = copy.deepcopy(dict(endpoint_manifest(**spec)))
    annotations = {labels.UPGRADE_ANNOTATION: approval} if approval else {}
    return parse_endpoint(
        {**manifest, "metadata": {**manifest["metadata"], "generation": generation, "annotations": annotations}}
    )


def applied(endpoint: Endpoint, settings: Settings = SETTINGS, **arguments: bool) -> Manifest:
    """The Deployment as an operator with these settings has created it."""
    flags = {"begins_upgrade": False, "is_complete": False, **arguments}
    return replace_template(endpoint, build_deployment(endpoint, settings), None, **flags)


def outdated(endpoint: Endpoint, live: Manifest, settings: Settings = NEXT) -> bool:
    return is_outdated(endpoint, build_deployment(endpoint, settings), live)


def without_record(deployment: Manifest) -> Manifest:
    metadata = deployment["metadata"]
    kept = {name: text for name, text in metadata["annotations"].items() if name != labels.TEMPLATE_ANNOTATION}
    return {**deployment, "metadata": {**metadata, "annotations": kept}}


def test_a_template_is_outdated_where_only_the_operator_has_changed_it() -> None:
    live = applied(parse())
    assert not outdated(parse(), live, SETTINGS)
    assert outdated(parse(), live)
    assert outdated(parse(generation=9, replicas=4, service={"port": 8000}), live), "scaled, not changed"
    assert not outdated(parse(generation=4, env=[{"name": "A", "value": "1"}]), live), (
        "the user's change counts at once"
    )


def test_a_crd_of_another_release_that_changes_the_spec_is_no_change_of_the_user() -> None:
    """`helm rollback` also rolls the CRD back, and the API server then removes fields that the old one lacks."""
    live = applied(parse(env=[{"name": "A", "value": "1"}]))
    assert outdated(parse(), live, SETTINGS)


def test_a_template_of_a_release_without_records_is_outdated_and_gets_a_record() -> None:
    live = without_record(applied(parse()))
    assert not outdated(parse(), live, SETTINGS)
    assert outdated(parse(), live)
    kept = keep_template(parse(), build_deployment(parse(), NEXT), live)
    record = read_record(kept)
    assert record == TemplateRecord(template_revision(live), 3, digest_own_spec(parse()))
    assert not outdated(parse(generation=4, image="own:1"), {**live, "metadata": kept["metadata"]})


def test_a_template_that_somebody_edited_is_repaired_and_not_outdated() -> None:
    live = copy.deepcopy(dict(applied(parse())))
    live["spec"]["template"]["metadata"]["annotations"] = {}
    assert not outdated(parse(), live, SETTINGS)
    assert outdated(parse(), live, NEXT)


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "{}", '{"revision": 1}', '{"revision": "a", "generation": "x"}'])
def test_a_broken_record_counts_as_no_record(text: str) -> None:
    live = copy.deepcopy(dict(applied(parse())))
    live["metadata"]["annotations"][labels.TEMPLATE_ANNOTATION] = text
    assert read_record(live) is None
    assert outdated(parse(generation=4, image="own:1"), live)


def test_a_kept_template_leaves_everything_else_to_the_operator() -> None:
    live = applied(parse())
    scaled = parse(generation=5, replicas=3)
    kept = keep_template(scaled, build_deployment(scaled, NEXT, unwatched="new"), live)
    assert "template" not in kept["spec"]
    assert kept["spec"]["replicas"] == 3
    annotations, before = kept["metadata"]["annotations"], live["metadata"]["annotations"]
    assert annotations[labels.UNWATCHED_ANNOTATION] == "new"
    assert annotations[labels.APPLIED_ANNOTATION] == before[labels.APPLIED_ANNOTATION]
    assert json.loads(annotations[labels.TEMPLATE_ANNOTATION])["generation"] == 5


def test_a_kept_template_keeps_the_inherited_labels_of_its_deployment() -> None:
    """A merge would add the new labels and keep the old ones. The next apply would not remove the old ones either."""
    endpoint = replace(parse(), inherited=Inherited({"team": "b"}, {"note": "n"}))
    metadata = keep_template(endpoint, build_deployment(endpoint, NEXT), applied(parse()))["metadata"]
    assert metadata["labels"] == labels.child_labels("one")
    assert "note" not in metadata["annotations"]


def test_pods_of_a_kept_template_are_not_stuck() -> None:
    live = applied(parse())

    def unavailable(stuck: set[str]) -> object:
        kept = keep_template(parse(), build_deployment(parse(), NEXT, stuck), live, stuck)
        return kept["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"]

    assert unavailable({template_revision(live)}) == 0
    assert unavailable({template_revision(live), "other"}) == "100%"
    assert unavailable(set()) == 0


def test_an_upgrade_is_recorded_until_it_is_complete_changed_or_approved() -> None:
    live = applied(parse(), begins_upgrade=True)

    def upgrading(endpoint: Endpoint, is_complete: bool = False) -> bool:
        draft = build_deployment(endpoint, SETTINGS)
        again = replace_template(endpoint, draft, live, begins_upgrade=False, is_complete=is_complete)
        record = read_record(again)
        assert record
        return record.upgrading

    assert upgrading(parse())
    assert upgrading(parse(generation=4, replicas=2))
    assert not upgrading(parse(), is_complete=True)
    assert not upgrading(parse(generation=4, image="own:1"))
    assert not upgrading(parse(approval="go on"))


def test_each_value_of_the_annotation_approves_once() -> None:
    live = applied(parse(approval="monday"))
    assert not is_approved(parse(approval="monday"), live)
    assert is_approved(parse(approval="tuesday"), live)
    assert not is_approved(parse(), live)
    assert not is_approved(parse(approval="tuesday"), without_record(live)), "set before records existed"
    kept = keep_template(parse(approval="tuesday"), build_deployment(parse(), NEXT), live)
    assert is_approved(parse(approval="tuesday"), kept), "not used up while the endpoint waits"


def test_defaults_of_the_schema_do_not_change_the_digest_of_the_own_spec() -> None:
    """A later CRD fills in defaults of new fields. They must not count as a change of every endpoint."""
    filled = complete(SPEC, {"model": "org/model", "gpu": {"count": 2}})
    assert digest_own_spec(parse(**filled)) == digest_own_spec(parse(gpu={"count": 2}))
    assert digest_own_spec(parse(unknown={"a": 1})) == digest_own_spec(parse())


CHANGES: Mapping[str, Any] = {
    "model": "org/other",
    "revision": "v1",
    "args": ["--seed=1"],
    "env": [{"name": "MAX_MODEL_LEN", "value": "8"}],
    "envFrom": [{"secretRef": {"name": "s"}}],
    "image": "own:1",
    "overlay": "None",
    "gpu": {"count": 0},
    "resources": {"limits": {"memory": "1Gi"}},
    "auth": {"mode": "None"},
    "cache": {"claimName": "weights"},
    "adapters": [{"name": "a", "source": "org/adapter"}],
    "pod": {"labels": {"a": "b"}},
    "rollout": {"drainTimeout": "1m"},
    "scaling": {"minReplicas": 0, "idle": "Sleep"},
    "replicas": 4,
    "suspend": True,
    "service": {"port": 8000},
    "route": {"parentRefs": [{"name": "g"}]},
    "networkPolicy": {"create": False},
    "upgrade": {"mode": "OnChange"},
    "rollout.strategy": {"strategy": "Replace"},
    "cache.size": {"size": "1Gi"},
    "cache.storageClassName": {"size": "1Gi", "storageClassName": "fast"},
    "scaling.maxReplicas": {"maxReplicas": 4},
}


@pytest.mark.parametrize("field", CHANGES)
def test_the_own_spec_changes_with_the_fields_that_change_the_pods(field: str) -> None:
    base: dict[str, Any] = {"cache": {"size": "1Gi"}} if field == "cache.storageClassName" else {}
    before, after = parse(**base), parse(**{**base, field.partition(".")[0]: CHANGES[field]})
    revisions = {template_revision(build_deployment(endpoint, SETTINGS)) for endpoint in (before, after)}
    assert (digest_own_spec(before) != digest_own_spec(after)) is (len(revisions) == 2)


def test_every_field_has_a_row_above() -> None:
    assert set(SPEC["properties"]) <= CHANGES.keys()
    assert NOT_IN_PODS - CHANGES.keys() == {"cache.accessModes", "cache.deletionPolicy"}
