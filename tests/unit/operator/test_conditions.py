"""The status for an observed state."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
import yaml

from cluster.pins import ROOT
from forebay_operator.spec import parse_endpoint
from forebay_operator.status.conditions import MAX_MODELS, assess_invalid, find_transition, is_mere_progress
from forebay_operator.status.diagnosis import Diagnosis
from forebay_operator.status.observed import Observed
from forebay_operator.status.start_progress import Report, find_unread
from tests.kubectl import Manifest, condition
from tests.unit.operator import kstatus
from tests.unit.operator.builders import (
    BAD_FLAG,
    LOADING,
    NOW,
    STATES,
    D,
    ended,
    endpoint_manifest,
    find_status,
    gone,
    old,
    pod,
    ready,
    unscheduled,
)

LATER = datetime(2026, 1, 1, 13, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wanted", "observed", "reason", "statuses"), [row[1:] for row in STATES], ids=[row[0] for row in STATES]
)
def test_the_conditions_describe_the_observed_state(
    wanted: int, observed: Observed, reason: str, statuses: str
) -> None:
    status = find_status(parse_endpoint(endpoint_manifest(replicas=wanted)), observed, {}, NOW)
    conditions = [condition({"status": status}, kind) for kind in ("Ready", "Reconciling", "Stalled")]
    assert conditions[0]["reason"] == reason
    assert " ".join(each["status"] for each in conditions) == statuses
    assert {each["observedGeneration"] for each in conditions} == {3}
    assert all(each["message"] for each in conditions)


KSTATUS = {
    "True False False": "Current",
    "True True False": "InProgress",
    "False True False": "InProgress",
    "True False True": "Failed",
    "False False True": "Failed",
}
"""Ready, Reconciling and Stalled, with what Helm's --wait and others make of them. No other combination is right. For
example, False False False would be in progress without end, while nothing works on it."""


@pytest.mark.parametrize(
    ("wanted", "observed", "statuses"), [(row[1], row[2], row[4]) for row in STATES], ids=[row[0] for row in STATES]
)
def test_tools_that_wait_for_an_endpoint_see_its_true_state(wanted: int, observed: Observed, statuses: str) -> None:
    manifest = endpoint_manifest(replicas=wanted)
    status = find_status(parse_endpoint(manifest), observed, {}, NOW)
    assert kstatus.compute({**manifest, "status": status}) == KSTATUS[statuses]
    changed = {**manifest, "metadata": {**manifest["metadata"], "generation": 4}}
    assert kstatus.compute({**changed, "status": status}) == "InProgress"


def test_an_endpoint_without_a_status_is_in_progress() -> None:
    crd = yaml.safe_load((ROOT / "crds/inferenceendpoints.forebay.dev.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    fresh = schema["properties"]["status"]["default"]
    assert kstatus.compute({**endpoint_manifest(), "status": fresh}) == "InProgress"


def surging(one: Manifest, **strategy: Any) -> Observed:
    """An old pod that serves beside one of the new revision."""
    rolling = {**D, "spec": {**D["spec"], "strategy": {"rollingUpdate": strategy}}}
    return Observed(rolling, [old(ready()), one])


ROLL_OUTS = [
    (surging(BAD_FLAG, maxSurge=1), "1 of 1 replicas ready, of the previous revision; the new one fails: BadFlag: no"),
    (surging(BAD_FLAG, maxSurge=1), "To roll back, undo the change"),
    (surging(BAD_FLAG, maxSurge=0), "the rollout stopped at the first pod of the new one, which fails: BadFlag"),
    (surging(unscheduled("0/1"), maxSurge=1), "spec.rollout.strategy: Replace, which stops an old pod first"),
    (Observed(D, [ready(), ended(1, "words")]), "1 of 2 replicas ready: ServerFailed: the server ended"),
]


@pytest.mark.parametrize(("observed", "words"), ROLL_OUTS)
def test_a_failed_change_is_reported_beside_the_serving_replicas(observed: Observed, words: str) -> None:
    wanted = 2 if "of 2" in words else 1
    found = condition(
        {"status": find_status(parse_endpoint(endpoint_manifest(replicas=wanted)), observed, {}, NOW)}, "Ready"
    )
    assert (found["status"], found["reason"]) == ("True", "Degraded")
    assert words in found["message"]


def running(step: str = "", restarts: int = 0, **progress: int) -> tuple[Manifest, dict[str, Report]]:
    """A pod whose server runs, and its startup report."""
    one = pod(state={"running": {"startedAt": "2026-01-01T00:00:30Z"}}, restartCount=restarts)
    one["metadata"]["uid"] = "u"
    return one, {f"u/{restarts}": Report(step, {}, progress)} if step else {}


def test_a_start_reports_its_progress() -> None:
    one, reports = running("Downloading", percent=43, bytesPerSecond=310_000_000, etaSeconds=21)
    status = find_status(parse_endpoint(endpoint_manifest()), Observed(D, [one], reports=reports), {}, NOW)
    assert status["startup"] == {
        "step": "Downloading",
        "percent": 43,
        "bytesPerSecond": 310_000_000,
        "etaSeconds": 21,
    }
    found = condition({"status": status}, "Ready")
    assert (found["reason"], found["message"]) == (
        "Downloading",
        "the model is being downloaded, 43 %, 310.0 MB/s, 21 s left",
    )
    assert condition({"status": status}, "ModelLoaded")["reason"] == "Downloading"


@pytest.mark.parametrize("step", ["Importing", "Downloading", "LoadingWeights", "Compiling", "WarmingUp"])
def test_every_step_of_the_server_is_a_reason(step: str) -> None:
    one, reports = running(step)
    status = find_status(parse_endpoint(endpoint_manifest()), Observed(D, [one], reports=reports), {}, NOW)
    assert (condition({"status": status}, "Ready")["reason"], status["startup"]) == (step, {"step": step})


def test_the_pod_with_the_most_progress_is_reported() -> None:
    one, reports = running("LoadingWeights")
    other, others = running("Downloading", restarts=1, percent=99)
    observed = Observed(D, [other, one, pod()], reports=reports | others)
    status = find_status(parse_endpoint(endpoint_manifest(replicas=3)), observed, {}, NOW)
    assert status["startup"] == {"step": "LoadingWeights"}


@pytest.mark.parametrize("observed", [Observed(D, [ready()]), Observed(D, [BAD_FLAG]), Observed(D, [ready(), pod()])])
def test_a_finished_or_failed_start_has_no_progress(observed: Observed) -> None:
    assert "startup" not in find_status(parse_endpoint(endpoint_manifest(replicas=2)), observed, {}, NOW)


def test_a_restarted_operator_repeats_the_last_report() -> None:
    one, reports = running("Downloading", percent=43)
    endpoint = parse_endpoint(endpoint_manifest())
    before = find_status(endpoint, Observed(D, [one], reports=reports), {}, NOW)
    assert find_status(endpoint, Observed(D, [one]), before, LATER) == before


def test_the_last_start_is_reported_by_its_steps() -> None:
    conditions = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:02Z"},
        {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"},
        {"type": "Ready", "status": "True"},
    ]
    state = {"running": {"startedAt": "2026-01-01T00:00:30Z"}}
    one = pod(conditions=conditions, ready=True, started=True, state=state)
    one["metadata"]["uid"] = "u"
    report = Report("Ready", {"Importing": 6.4, "Downloading": 12.1, "LoadingWeights": 3.0, "WarmingUp": 0.2})
    endpoint = parse_endpoint(endpoint_manifest())
    unread = find_status(endpoint, Observed(D, [one]), {}, NOW)
    assert "lastStart" not in unread
    status = find_status(endpoint, Observed(D, [one], reports={"u/0": report}), unread, NOW)
    assert status["lastStart"] == {
        "pod": "one-abc",
        "startedAt": "2026-01-01T00:00:30Z",
        "revision": "newest",
        "seconds": {
            "scheduling": 2,
            "preparing": 3,
            "pulling": 25,
            "importing": 6,
            "downloading": 12,
            "loading": 3,
            "warmingUp": 0,
        },
    }
    assert find_status(endpoint, Observed(D, [one]), status, LATER) == status, (
        "it is kept after the report is gone from memory"
    )
    assert find_unread([one], {}, {}) == [one]
    assert find_unread([one], status["lastStart"], {}) == []


def test_a_reasoning_parser_is_advised_until_env_sets_one() -> None:
    one = pod(ready=True, started=True, state={"running": {"startedAt": "2026-01-01T00:00:30Z"}})
    one["metadata"]["uid"] = "u"
    reports = {"u/0": Report("Ready", reasoning_parser="qwen3")}
    endpoint = parse_endpoint(endpoint_manifest())
    status = find_status(endpoint, Observed(D, [one], reports=reports), {}, NOW)
    advised = condition({"status": status}, "EnvRecognized")
    assert (advised["status"], advised["reason"]) == ("True", "Recognized")
    assert "REASONING_PARSER=qwen3" in advised["message"]
    later = find_status(endpoint, Observed(D, [one]), status, LATER)
    assert later == status, "a restarted operator advises the same"
    set_now = parse_endpoint(endpoint_manifest(env=[{"name": "REASONING_PARSER", "value": "deepseek_r1"}]))
    silent = condition({"status": find_status(set_now, Observed(D, [one]), status, LATER)}, "EnvRecognized")
    assert "REASONING_PARSER" not in silent["message"]


def test_progress_is_distinguished_from_urgent_changes() -> None:
    endpoint = parse_endpoint(endpoint_manifest())
    one, reports = running("Downloading", percent=43)
    states = [
        find_status(endpoint, observed, {}, NOW)
        for observed in (
            Observed(D, [pod()]),
            Observed(D, [one], reports=reports),
            Observed(D, [BAD_FLAG]),
            Observed(D, [ready()]),
        )
    ]
    assert is_mere_progress(states[0], states[1])
    assert not any(is_mere_progress(before, after) for before, after in pairwise(states[1:]))
    assert not is_mere_progress({}, states[0])
    changed = find_status(replace(endpoint, generation=4), Observed(D, [pod()]), {}, NOW)
    assert not is_mere_progress(states[0], changed)


def test_a_transition_is_a_change_of_readys_status_or_reason() -> None:
    endpoint = parse_endpoint(endpoint_manifest(replicas=2))
    up = find_status(endpoint, Observed(D, [ready(), ready()]), {}, NOW)
    updating = find_status(endpoint, Observed(D, [ready(), pod()]), up, LATER)
    found = find_transition(up, updating)
    assert found is not None
    assert found["reason"] == "Updating"
    assert find_transition(updating, updating) is None


def test_an_evicted_pod_is_named_while_its_successor_starts() -> None:
    successor = pod("2026-01-02T00:00:00Z")
    observed = Observed(D, [gone("Evicted", "low on memory"), successor])
    found = condition({"status": find_status(parse_endpoint(endpoint_manifest()), observed, {}, NOW)}, "Ready")
    assert (found["reason"], found["message"]) == (
        "Scheduling",
        "a node is being chosen; the pod before ended: Evicted: low on memory",
    )


def test_a_pod_that_is_being_deleted_does_not_count() -> None:
    leaving = ended(1)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    status = find_status(parse_endpoint(endpoint_manifest()), Observed(D, [leaving, ready()]), {}, NOW)
    assert condition({"status": status}, "Ready")["reason"] == "Ready"
    assert status["replicas"] == 1


def test_counts_and_names_are_in_the_status() -> None:
    endpoint = parse_endpoint(endpoint_manifest(replicas=3, service={"port": 8080}))
    status = find_status(endpoint, Observed(D, [ready(), pod()]), {}, NOW)
    assert status["url"] == "http://one.team.svc:8080/v2/one/openai/v1"
    assert (status["ready"], status["replicas"], status["readyReplicas"]) == ("1/3", 2, 1)
    assert status["selector"] == "forebay.dev/endpoint=one"
    assert (status["models"], status["modelsKnown"]) == (["org/model"], "All")
    assert status["observedGeneration"] == 3


def test_transition_times_move_only_with_the_status() -> None:
    endpoint = parse_endpoint(endpoint_manifest())
    first = find_status(endpoint, Observed(D, [pod()]), {}, NOW)
    second = find_status(endpoint, Observed(D, [pod(**LOADING)]), first, LATER)
    third = find_status(endpoint, Observed(D, [ready()]), second, LATER)
    times = [condition({"status": each}, "Ready")["lastTransitionTime"] for each in (first, second, third)]
    assert times == ["2026-01-01T12:00:00Z", "2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z"]


def test_a_condition_without_a_transition_time_gets_one() -> None:
    endpoint = parse_endpoint(endpoint_manifest())
    first = find_status(endpoint, Observed(D, [ready()]), {}, NOW)
    for each in first["conditions"]:
        del each["lastTransitionTime"]
    second = find_status(endpoint, Observed(D, [ready()]), first, LATER)
    assert {each["lastTransitionTime"] for each in second["conditions"]} == {"2026-01-01T13:00:00Z"}


def test_the_same_observation_gives_the_same_status() -> None:
    endpoint = parse_endpoint(endpoint_manifest())
    observed = Observed(D, [ready()], env_warnings=["odd"])
    first = find_status(endpoint, observed, {}, NOW)
    assert find_status(endpoint, observed, first, LATER) == first


def test_a_message_fits_into_a_condition() -> None:
    endpoint = parse_endpoint(endpoint_manifest())
    observed = Observed(D, [], Diagnosis("Refused", "x" * 100_000), env_warnings=["y" * 100_000])
    conditions = find_status(endpoint, observed, {}, NOW)["conditions"]
    assert max(len(each["message"]) for each in conditions) == 32768


def test_a_suspended_endpoint_is_reported_and_matches_its_spec() -> None:
    endpoint = parse_endpoint(endpoint_manifest(replicas=3, suspend=True))
    status = find_status(endpoint, Observed(D, []), {}, NOW)
    found = condition({"status": status}, "Ready")
    assert (found["status"], found["reason"], status["ready"]) == ("True", "Suspended", "0/0")


def test_conditions_from_other_sources_are_kept() -> None:
    route = {"type": "RouteReady", "status": "True", "reason": "RouteAccepted", "message": "taken"}
    endpoint = parse_endpoint(endpoint_manifest())
    first = find_status(endpoint, Observed(D, [], conditions=[route]), {}, NOW)
    second = find_status(endpoint, Observed(D, [], conditions=[route]), first, LATER)
    assert condition({"status": second}, "RouteReady") == {**route, "lastTransitionTime": "2026-01-01T12:00:00Z"}
    assert not condition({"status": find_status(endpoint, Observed(D, []), second, LATER)}, "RouteReady")


INVALID = Diagnosis("InvalidSpec", "spec.model: missing", stalled=True)


@pytest.mark.parametrize(
    ("pods", "ready_status", "reason"), [([], "False", "InvalidSpec"), ([old(ready())], "True", "Degraded")]
)
def test_an_invalid_spec_stalls_and_running_replicas_still_count(
    pods: list[Manifest], ready_status: str, reason: str
) -> None:
    addresses = [{"type": "Service", "url": "http://one.team.svc/v2/one/openai/v1"}]
    observed = Observed(D, [ready()], addresses=addresses)
    before = find_status(parse_endpoint(endpoint_manifest()), observed, {}, NOW)
    assert before["addresses"] == addresses
    manifest = endpoint_manifest(model=None)
    status = assess_invalid(manifest, Observed(D, pods, INVALID), before, LATER)
    found = condition({"status": status}, "Ready")
    assert (found["status"], found["reason"]) == (ready_status, reason)
    assert "spec.model: missing" in found["message"]
    assert condition({"status": status}, "Stalled")["status"] == "True"
    assert (status["observedGeneration"], status["readyReplicas"]) == (3, len(pods))
    kept = ("url", "addresses", "models", "modelsKnown")
    assert [status[field] for field in kept] == [before[field] for field in kept]


def test_the_status_says_whether_it_has_every_name_of_a_model() -> None:
    endpoint = parse_endpoint(endpoint_manifest(envFrom=[{"secretRef": {"name": "settings"}}]))
    status = find_status(endpoint, Observed(D, []), {}, NOW)
    assert (status["models"], status["modelsKnown"]) == (["org/model"], "Some")


def test_a_status_has_as_many_models_as_the_schema_allows() -> None:
    value = " ".join(["x" * 600, *(f"m{number}" for number in range(300))])
    endpoint = parse_endpoint(endpoint_manifest(env=[{"name": "SERVED_MODEL_NAME", "value": value}]))
    status = find_status(endpoint, Observed(D, []), {}, NOW)
    assert (len(status["models"]), status["models"][0], status["modelsKnown"]) == (MAX_MODELS, "m0", "Some")
