"""Rollouts, the time limits of starts and drains, and further children of an endpoint."""

from typing import Any

import pytest

from forebay_operator.resources import build_claim, build_deployment, build_disruption_budget, build_route
from forebay_operator.resources.route import assess_route
from forebay_operator.settings import Settings
from forebay_operator.spec import parse_endpoint
from tests.kubectl import Manifest
from tests.unit.operator.builders import SETTINGS, container, endpoint_manifest, env, pod_spec


def deployment(stuck: frozenset[str] = frozenset(), **spec: Any) -> Manifest:
    return dict(build_deployment(parse_endpoint(endpoint_manifest(**spec)), SETTINGS, stuck))


@pytest.mark.parametrize(
    ("strategy", "stuck", "surge", "unavailable"),
    [
        ("Surge", frozenset(), 1, 0),
        ("Surge", frozenset({"older"}), 1, "100%"),
        ("Replace", frozenset(), 0, 1),
        ("Replace", frozenset({"older"}), 0, "100%"),
    ],
)
def test_strategies(strategy: str, stuck: frozenset[str], surge: int, unavailable: object) -> None:
    found = deployment(stuck, rollout={"strategy": strategy})["spec"]["strategy"]
    assert found == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def test_a_drain_can_take_its_configured_time() -> None:
    rollout = {"drainTimeout": "1h"}
    assert env(rollout=rollout)["FOREBAY_DRAIN_SECONDS"]["value"] == "3600"
    assert pod_spec(rollout=rollout)["terminationGracePeriodSeconds"] == 5 + 3600 + 15


@pytest.mark.parametrize(
    ("variables", "server", "kubernetes"),
    [({}, "600", 600), ({"VLLM_STARTUP_TIMEOUT": "60"}, "60", 600), ({"VLLM_STARTUP_TIMEOUT": "7200"}, "7200", 7200)],
)
def test_the_server_reports_a_slow_start_before_kubernetes_ends_it(
    variables: dict[str, str], server: str, kubernetes: int
) -> None:
    given = [{"name": name, "value": value} for name, value in variables.items()]
    spec: dict[str, Any] = {"rollout": {"startupTimeout": "10m"}, "env": given}
    assert env(**spec)["VLLM_STARTUP_TIMEOUT"]["value"] == server
    probe = container(**spec)["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] == kubernetes + 30
    assert deployment(**spec)["spec"]["progressDeadlineSeconds"] > kubernetes + 30


def test_a_suspended_endpoint_keeps_everything_but_its_pods() -> None:
    asleep, awake = deployment(replicas=3, suspend=True), deployment(replicas=3)
    assert asleep["spec"]["replicas"] == 0
    assert asleep["spec"]["template"] == awake["spec"]["template"]


def test_the_users_labels_are_added_and_make_a_new_revision() -> None:
    plain = deployment()["spec"]["template"]["metadata"]
    found = deployment(pod={"labels": {"team": "a"}, "annotations": {"scrape": "yes"}})["spec"]["template"]["metadata"]
    assert found["labels"] == {**plain["labels"], "team": "a"}
    assert found["annotations"]["scrape"] == "yes"
    assert found["annotations"]["forebay.dev/revision"] != plain["annotations"]["forebay.dev/revision"]


def test_one_pod_at_a_time_may_be_evicted_and_any_unready_pod() -> None:
    budget = build_disruption_budget(parse_endpoint(endpoint_manifest()))
    assert budget["spec"] == {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": {"forebay.dev/endpoint": "one"}},
    }


def claim(**cache: Any) -> Manifest | None:
    found = build_claim(parse_endpoint(endpoint_manifest(cache=cache)))
    return dict(found) if found else None


def test_a_claim_is_created_only_if_a_size_is_set() -> None:
    assert claim() is None
    assert claim(claimName="mine") is None
    found = claim(size="10Gi", storageClassName="fast", accessModes=["ReadWriteMany"])
    assert found is not None
    assert found["metadata"]["name"] == "one-cache"
    assert found["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "10Gi"}},
        "storageClassName": "fast",
    }


def test_only_a_claim_with_policy_delete_has_an_owner() -> None:
    kept, owned = claim(size="1Gi"), claim(size="1Gi", deletionPolicy="Delete")
    assert kept is not None
    assert owned is not None
    assert "ownerReferences" not in kept["metadata"]
    assert owned["metadata"]["ownerReferences"][0]["uid"] == "u"


ROUTE = {"parentRefs": [{"name": "public", "namespace": "gateways"}], "hostnames": ["llm.example.com"]}


def route(home: str = "default", **spec: Any) -> Manifest | None:
    settings = Settings(gpu_image="", cpu_image="", home_namespace=home)
    found = build_route(parse_endpoint(endpoint_manifest(**spec)), settings)
    return dict(found) if found else None


@pytest.mark.parametrize(("home", "path"), [("default", "/v2/team.one"), ("team", "/v2/one")])
def test_a_route_points_to_the_service_and_has_no_timeout(home: str, path: str) -> None:
    found = route(home, route=ROUTE, service={"port": 8080})
    assert found is not None
    assert found["spec"] == {
        "parentRefs": ROUTE["parentRefs"],
        "hostnames": ROUTE["hostnames"],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": path}}],
                "backendRefs": [{"name": "one", "port": 8080}],
                "timeouts": {"request": "0s"},
            }
        ],
    }
    assert route(home) is None


def answer(accepted: str = "True", resolved: str = "True", generation: int = 2) -> Manifest:
    def condition(kind: str, value: str) -> Manifest:
        return {"type": kind, "status": value, "reason": "Why", "message": "so", "observedGeneration": generation}

    conditions = [condition("Accepted", accepted), condition("ResolvedRefs", resolved)]
    return {"parentRef": {"name": "public"}, "conditions": conditions}


@pytest.mark.parametrize(
    ("answers", "status", "reason", "words"),
    [
        ([], "False", "RouteWaiting", "0 of 1 Gateways have accepted the route"),
        ([answer()], "True", "RouteAccepted", "every Gateway"),
        ([answer(generation=1)], "False", "RouteWaiting", "0 of 1"),
        ([answer(accepted="False")], "False", "RouteRefused", "the Gateway public says Why: so"),
        ([answer(resolved="False")], "False", "RouteRefused", "the Gateway public says Why: so"),
    ],
)
def test_the_status_of_a_route_is_read_from_its_gateways(
    answers: list[Manifest], status: str, reason: str, words: str
) -> None:
    live = {"metadata": {"generation": 2}, "spec": {"parentRefs": [{}]}, "status": {"parents": answers}}
    found = assess_route(live, 7)
    assert (found["status"], found["reason"], found["observedGeneration"]) == (status, reason, 7)
    assert words in str(found["message"])
