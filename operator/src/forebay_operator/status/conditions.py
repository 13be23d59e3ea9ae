"""Builds the status of an endpoint from its observed state: a pure function, which the reconciler calls.

readiness.py decides about Ready; this module turns its answer into conditions and fields.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from forebay_kube.object_conditions import find_condition
from forebay_operator import labels
from forebay_operator.spec import Endpoint, Manifest
from forebay_operator.spec.replicas import remember_replicas
from forebay_operator.status.diagnosis import Diagnosis
from forebay_operator.status.observed import Observed, has_loaded
from forebay_operator.status.pod_variables import choose_differences
from forebay_operator.status.readiness import STEPS, Readiness, compute_readiness
from forebay_operator.status.start_progress import find_last_start

MAX_MODELS, MAX_MODEL_NAME = 256, 512
"""The most names of models, and characters of a name, that the schema allows. With more, the status would be
rejected."""

MAX_MESSAGE = 32768
"""Characters of a condition's message that the API conventions allow."""

REASONING_PARSER = "REASONING_PARSER"
"""The variable of the server for the parser that separates a model's reasoning from its answer."""

Condition = dict[str, object]


def assess(
    endpoint: Endpoint, observed: Observed, failure: Diagnosis | None, previous: Manifest, now: datetime
) -> Manifest:
    """Build the status of an endpoint whose spec is valid. `previous` is the status before, for transition times."""
    wanted = endpoint.wanted
    readiness = compute_readiness(
        wanted, observed, failure, suspended=endpoint.suspend, gpu=endpoint.gpu, before=previous
    )
    models = [name for name in endpoint.served_names if len(name) <= MAX_MODEL_NAME][:MAX_MODELS]
    status: dict[str, Any] = {
        "observedGeneration": endpoint.generation,
        "url": endpoint.url,
        "addresses": [dict(address) for address in observed.addresses],
        "models": models,
        "modelsKnown": "All" if endpoint.knows_all_names and len(models) == len(endpoint.served_names) else "Some",
        "selector": labels.selector_string(endpoint.name),
        "desiredReplicas": endpoint.replicas,
        **_count(observed, wanted),
        **_describe_start(observed, readiness, previous, endpoint.own_env),
    }
    conditions = _build_conditions(readiness, observed, wanted, endpoint.generation)
    advised = "" if _sets(endpoint, REASONING_PARSER) else status.get("lastStart", {}).get("reasoningParser", "")
    conditions.append(_build_env_condition(observed.env_warnings, advised, endpoint.generation))
    conditions += [dict(condition) for condition in observed.conditions]
    return {**status, "conditions": _set_transition_times(conditions, previous, now)}


def assess_invalid(manifest: Manifest, observed: Observed, previous: Manifest, now: datetime) -> Manifest:
    """Build the status of an endpoint whose spec cannot be used (`observed.error`). Its pods still run."""
    generation = manifest["metadata"].get("generation", 0)
    wanted = (observed.deployment or {}).get("spec", {}).get("replicas", 0)
    kept = ("url", "addresses", "models", "modelsKnown", "selector")
    fields = {key: previous[key] for key in kept if key in previous}
    fields |= remember_replicas(manifest, previous)
    readiness = compute_readiness(wanted, observed)
    counts = {**_count(observed, wanted), **_describe_start(observed, readiness, previous)}
    conditions = _build_conditions(readiness, observed, wanted, generation)
    status = {**fields, **counts, "observedGeneration": generation}
    return {**status, "conditions": _set_transition_times(conditions, previous, now)}


def is_mere_progress(before: Manifest, after: Manifest) -> bool:
    """Whether only the progress of a start has changed, or the time that it took."""
    return _without_progress(before) == _without_progress(after)


def is_beginning(before: Manifest, after: Manifest) -> bool:
    """Whether `after` is the first status that reports a start."""
    return (
        find_condition(before, "Ready").get("status", "Unknown") == "Unknown"
        and find_condition(after, "Ready").get("reason") in STEPS
    )


def find_transition(before: Manifest, after: Manifest) -> Manifest | None:
    """The Ready condition of `after` if its status or reason has changed, else None."""
    old, new = find_condition(before, "Ready"), find_condition(after, "Ready")
    same = all(old.get(field) == new.get(field) for field in ("status", "reason"))
    return None if same else new


def _without_progress(status: Manifest) -> Manifest:
    def reduce(condition: Manifest) -> Manifest:
        changing = ("reason", "message") if condition["reason"] in STEPS else ()
        return {key: value for key, value in condition.items() if key not in changing}

    starting = ("replicas",) if find_condition(status, "Ready").get("reason") in STEPS else ()
    fields = {key: value for key, value in status.items() if key not in ("startup", "lastStart", *starting)}
    return {**fields, "conditions": [reduce(condition) for condition in status.get("conditions") or ()]}


def _count(observed: Observed, wanted: int) -> dict[str, object]:
    ready = len(observed.ready)
    queued, running = observed.jobs
    jobs = {"jobs": {"queued": queued, "running": running}} if any(observed.jobs) else {}
    return {"ready": f"{ready}/{wanted}", "replicas": len(observed.active), "readyReplicas": ready, **jobs}


def _describe_start(
    observed: Observed, readiness: Readiness, previous: Manifest, env: Sequence[Manifest] = ()
) -> dict[str, object]:
    before = previous.get("lastStart") or {}
    last = find_last_start(observed.active, observed.reports, before)
    if last is not before and (differences := choose_differences(env, observed, last)):
        listed = [{"name": name, "status": status} for name, status in differences.items()]
        last = {**last, "variables": listed}
    start = {"startup": dict(readiness.progress), "lastStart": last}
    return {key: value for key, value in start.items() if value}


def _build_conditions(readiness: Readiness, observed: Observed, wanted: int, generation: int) -> list[Condition]:
    loaded = sum(map(has_loaded, observed.active))
    rows = [
        ("Ready", readiness.ready, readiness.reason, readiness.message),
        ("Reconciling", readiness.reconciling, readiness.reason, readiness.message),
        ("Stalled", readiness.stalled, readiness.reason, readiness.message),
        (
            "ModelLoaded",
            bool(loaded),
            "Loaded" if loaded else readiness.reason,
            f"{loaded} of {wanted} replicas have the model loaded" if loaded else "no replica has the model loaded",
        ),
    ]
    return [_condition(kind, value, reason, message, generation) for kind, value, reason, message in rows]


def _sets(endpoint: Endpoint, name: str) -> bool:
    return any(variable["name"] == name for variable in endpoint.env)


def _build_env_condition(env_warnings: Sequence[str], reasoning_parser: str, generation: int) -> Condition:
    """Build the condition for the user's variables.

    Args:
        reasoning_parser: the parser that the model's family needs and that is not set. It is advice, so the condition
            stays True.
    """
    reason = "Doubtful" if env_warnings else "Recognized"
    message = "; ".join(env_warnings) or "every variable has an effect, as far as the server knows"
    if reasoning_parser:
        message += (
            f"; the model may reason before it answers: set {REASONING_PARSER}={reasoning_parser} to separate that"
        )
    return _condition("EnvRecognized", not env_warnings, reason, message, generation)


def _condition(kind: str, value: bool, reason: str, message: str, generation: int) -> Condition:
    return {
        "type": kind,
        "status": "True" if value else "False",
        "reason": reason,
        "message": message[:MAX_MESSAGE],
        "observedGeneration": generation,
    }


def _set_transition_times(conditions: list[Condition], previous: Manifest, now: datetime) -> list[Condition]:
    """Set the transition time of each condition: the previous one while the status stays the same, else `now`."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    for condition in conditions:
        former = find_condition(previous, str(condition["type"]))
        same = former.get("status") == condition["status"]
        condition["lastTransitionTime"] = (former.get("lastTransitionTime") if same else None) or stamp
    return conditions
