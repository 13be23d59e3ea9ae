"""EnvRecognized follows what the vLLM of the pod knows, once a pod has reported it."""

from dataclasses import replace
from typing import Any

import pytest

from forebay_operator.spec import parse_endpoint
from forebay_operator.status.env_warnings import find_env_warnings, known_names, names_in_pod
from forebay_operator.status.observed import Observed
from forebay_operator.status.pod_variables import MAX_DIFFERENCES, choose_differences, find_differences
from forebay_operator.status.start_progress import MAX_VARIABLES, Report, parse_report
from tests.kubectl import Manifest
from tests.unit.operator.builders import NOW, D, deployment, endpoint_manifest, find_status, pod, ready

NEW, OLD = {"name": "A_NEW_FLAG", "value": "1"}, {"name": "MAX_MODEL_LEN", "value": "1"}
"""A variable that only a newer vLLM has, and one that the default vLLM has."""


@pytest.mark.parametrize(
    ("env", "reported", "differences", "warnings"),
    [
        ([OLD], {"MAX_MODEL_LEN": "flag"}, {}, []),
        ([OLD], {}, {"MAX_MODEL_LEN": "absent"}, ["spec.env: MAX_MODEL_LEN has no effect: the vLLM of the image"]),
        ([OLD], {"MAX_MODEL_LEN": "removed"}, {"MAX_MODEL_LEN": "removed"}, ["MAX_MODEL_LEN has no effect: vLLM has"]),
        ([NEW], {"A_NEW_FLAG": "flag"}, {"A_NEW_FLAG": "flag"}, []),
        (
            [NEW, {"name": "A_NEW_FLAGG", "value": ""}], {"A_NEW_FLAG": "flag"}, {"A_NEW_FLAG": "flag"},
            ["A_NEW_FLAGG is not known to the server; did you mean A_NEW_FLAG?"],
        ),
        (
            [{"name": "MAX_MODEL_LENN", "value": "1"}], {"MAX_MODEL_LENN": "flag"}, {"MAX_MODEL_LENN": "flag"}, [],
        ),
        ([{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}], {}, {}, []),
        ([{"name": "MY_OWN", "value": "1"}], {"HOME": "flag"}, {}, []),
    ],
)  # fmt: skip
def test_the_vllm_of_the_pod_decides_about_variables(
    env: list[Manifest], reported: dict[str, str], differences: dict[str, str], warnings: list[str]
) -> None:
    assert find_differences(env, reported) == differences
    found = find_env_warnings(env, *names_in_pod(differences))
    assert len(found) == len(warnings)
    assert all(expected in sentence for sentence, expected in zip(found, warnings, strict=True))


def test_many_differences_are_cut_to_what_the_schema_allows() -> None:
    env = [{"name": f"NEW_{number}", "value": ""} for number in range(100)]
    assert len(find_differences(env, {each["name"]: "flag" for each in env})) == MAX_DIFFERENCES


def loading(uid: str = "u") -> Manifest:
    running = {"running": {"startedAt": "2026-01-01T00:00:30Z"}}
    one = pod(state=running, restartCount=0)
    return {**one, "metadata": {**one["metadata"], "uid": uid}}


def loaded() -> Manifest:
    one = ready()
    container = {**one["status"]["containerStatuses"][0], "started": True, "restartCount": 0}
    container["state"] = {"running": {"startedAt": "2026-01-01T00:00:30Z"}}
    metadata = {**one["metadata"], "uid": "u"}
    return {**one, "metadata": metadata, "status": {**one["status"], "containerStatuses": [container]}}


def test_a_report_counts_before_the_pod_is_ready() -> None:
    reports = {"u/0": Report("LoadingWeights", variables={"A_NEW_FLAG": "flag"})}
    observed = Observed(D, [loading()], reports=reports)
    assert choose_differences([NEW], observed, {}) == {"A_NEW_FLAG": "flag"}
    silent = replace(observed, reports={"u/0": Report("LoadingWeights")})
    assert choose_differences([OLD], silent, {}) == {}, "an older server reports no variables"


def test_the_status_keeps_the_differences_until_the_template_changes() -> None:
    endpoint = parse_endpoint(endpoint_manifest(env=[NEW, OLD]))
    report = Report("Ready", vllm_version="0.40.0", variables={"A_NEW_FLAG": "flag", "MAX_MODEL_LEN": "flag"})
    last: dict[str, Any] = find_status(endpoint, Observed(D, [loaded()], reports={"u/0": report}), {}, NOW)["lastStart"]
    assert last["vllmVersion"] == "0.40.0"
    assert last["variables"] == [{"name": "A_NEW_FLAG", "status": "flag"}]
    assert choose_differences([NEW, OLD], Observed(D, []), last) == {"A_NEW_FLAG": "flag"}, "without a pod"
    changed = deployment()
    changed["spec"]["template"]["metadata"]["annotations"]["forebay.dev/revision"] = "another"
    assert choose_differences([NEW, OLD], Observed(changed, []), last) == {}


def test_a_default_vllm_adds_nothing_to_the_status() -> None:
    endpoint = parse_endpoint(endpoint_manifest(env=[OLD]))
    report = Report("Ready", variables=dict(known_names()))
    last = find_status(endpoint, Observed(D, [loaded()], reports={"u/0": report}), {}, NOW)["lastStart"]
    assert "variables" not in last


@pytest.mark.parametrize(
    ("content", "version", "variables"),
    [
        ({}, "", None),
        ({"vllmVersion": "0.32.0+cpu", "variables": {"A": "flag"}}, "0.32.0+cpu", {"A": "flag"}),
        ({"vllmVersion": "<b>", "variables": []}, "", None),
        ({"vllmVersion": 3, "variables": {"A": 3, "B": "not-yet", "c d": "flag", "C": "<b>"}}, "", {"B": "not-yet"}),
    ],
)
def test_the_report_of_any_image_is_read_with_care(content: Manifest, version: str, variables: Manifest | None) -> None:
    report = parse_report({"step": "Ready", **content})
    assert report
    assert (report.vllm_version, report.variables) == (version, variables)


def test_a_report_of_many_variables_is_cut() -> None:
    report = parse_report({"step": "Ready", "variables": {f"A{number}": "flag" for number in range(1000)}})
    assert report
    assert report.variables
    assert len(report.variables) == MAX_VARIABLES
