"""The status of an endpoint, a pure function of what is observed. readiness.py decides; this module writes it down."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from forebay_kube.object_conditions import find_condition
from forebay_operator import labels
from forebay_operator.spec import Endpoint, Manifest
from forebay_operator.spec.replicas import remember_replicas
from forebay_operator.status.diagnosis import Diagnosis
from forebay_operator.status.observed import Observed, has_loaded
from forebay_operator.status.readiness import STEPS, Readiness, compute_readiness
from forebay_operator.status.start_progress import find_last_start

MAX_MESSAGE = 32768
"""Characters of a condition's message that the API conventions allow."""

REASONING_PARSER = "REASONING_PARSER"
"""The variable of the server for the parser of what a model thinks."""

Condition = dict[str, object]


def assess(
    endpoint: Endpoint, observed: Observed, failure: Diagnosis | None, previous: Manifest, now: datetime
) -> Manifest:
    """The status of an endpoint that was understood. `previous` is the status before, for the transition times."""
    wanted = endpoint.wanted
    readiness = compute_readiness(
        wanted, observed, failure, suspended=endpoint.suspend, gpu=endpoint.gpu, before=previous
    )
    status: dict[str, Any] = {
        "observedGeneration": endpoint.generation,
        "url": endpoint.url,
        "models": list(endpoint.served_names),
        "selector": labels.selector_string(endpoint.name),
        "desiredReplicas": endpoint.replicas,
        **_count(observed, wanted),
        **_describe_start(observed, readiness, previous),
    }
    conditions = _build_conditions(readiness, observed, wanted, endpoint.generation)
    advised = "" if _sets(endpoint, REASONING_PARSER) else status.get("lastStart", {}).get("reasoningParser", "")
    conditions.append(_build_env_condition(observed.env_warnings, advised, endpoint.generation))
    conditions += [dict(condition) for condition in observed.conditions]
    return {**status, "conditions": _keep_times(conditions, previous, now)}


def assess_invalid(manifest: Manifest, observed: Observed, previous: Manifest, now: datetime) -> Manifest:
    """The status of an endpoint of which nothing can be made (`observed.error`). What ran before still runs."""
    generation = manifest["metadata"].get("generation", 0)
    wanted = (observed.deployment or {}).get("spec", {}).get("replicas", 0)
    kept = {key: previous[key] for key in ("url", "models", "selector") if key in previous}
    kept |= remember_replicas(manifest, previous)
    readiness = compute_readiness(wanted, observed)
    counts = {**_count(observed, wanted), **_describe_start(observed, readiness, previous)}
    conditions = _build_conditions(readiness, observed, wanted, generation)
    status = {**kept, **counts, "observedGeneration": generation}
    return {**status, "conditions": _keep_times(conditions, previous, now)}


def is_mere_progress(before: Manifest, after: Manifest) -> bool:
    """Whether all that is new is how far a start has come, or how long it took."""
    return _without_progress(before) == _without_progress(after)


def is_beginning(before: Manifest, after: Manifest) -> bool:
    """Whether a start goes on of which nothing has been said before."""
    return (
        find_condition(before, "Ready").get("status", "Unknown") == "Unknown"
        and find_condition(after, "Ready").get("reason") in STEPS
    )


def find_transition(before: Manifest, after: Manifest) -> Manifest | None:
    """The Ready condition of `after` when its status or reason is another than before."""
    old, new = find_condition(before, "Ready"), find_condition(after, "Ready")
    same = all(old.get(field) == new.get(field) for field in ("status", "reason"))
    return None if same else new


def _without_progress(status: Manifest) -> Manifest:
    def reduce(condition: Manifest) -> Manifest:
        words = ("reason", "message") if condition["reason"] in STEPS else ()
        return {key: value for key, value in condition.items() if key not in words}

    starting = ("replicas",) if find_condition(status, "Ready").get("reason") in STEPS else ()
    kept = {key: value for key, value in status.items() if key not in ("startup", "lastStart", *starting)}
    return {**kept, "conditions": [reduce(condition) for condition in status.get("conditions") or ()]}


def _count(observed: Observed, wanted: int) -> dict[str, object]:
    ready = len(observed.ready)
    queued, running = observed.jobs
    jobs = {"jobs": {"queued": queued, "running": running}} if any(observed.jobs) else {}
    return {"ready": f"{ready}/{wanted}", "replicas": len(observed.active), "readyReplicas": ready, **jobs}


def _describe_start(observed: Observed, readiness: Readiness, previous: Manifest) -> dict[str, object]:
    last = find_last_start(observed.active, observed.reports, previous.get("lastStart") or {})
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
    """`reasoning_parser`: the one that the model's family needs and nobody has set. Advice makes nothing doubtful."""
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


def _keep_times(conditions: list[Condition], previous: Manifest, now: datetime) -> list[Condition]:
    """Give each condition its transition time: the former one while its status stays the same."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    for condition in conditions:
        former = find_condition(previous, str(condition["type"]))
        same = former.get("status") == condition["status"]
        condition["lastTransitionTime"] = (former.get("lastTransitionTime") if same else None) or stamp
    return conditions
