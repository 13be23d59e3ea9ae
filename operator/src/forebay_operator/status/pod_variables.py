"""Compares the variables that a pod's vLLM knows with server_names.txt, which describes the chart's default vLLM.

A pod reports which variables of its environment the parser of its vLLM knows. status.lastStart keeps the differences
for the user's variables. So the operator knows the differences without a pod too. The reconciler and conditions.py call
it.
"""

from collections.abc import Iterable, Mapping, Sequence

from forebay_operator import labels
from forebay_operator.spec import Manifest
from forebay_operator.status.env_warnings import ABSENT, known_names
from forebay_operator.status.observed import Observed
from forebay_operator.status.start_progress import Report, run_of

MAX_DIFFERENCES = 64
"""The most differences that the schema allows in status.lastStart."""


def find_differences(env: Iterable[Manifest], reported: Mapping[str, str]) -> dict[str, str]:
    """Find the user's variables whose status differs in the pod's vLLM. Returns name -> status in this vLLM,
    ABSENT if unknown.

    A variable from a Secret, a ConfigMap or a field can be missing in the pod. So this variable is compared only if
    the pod reports it.
    """
    differences = {}
    for variable in env:
        name = variable["name"]
        status = reported.get(name, "" if "valueFrom" in variable else ABSENT)
        before = known_names().get(name, ABSENT)
        if status and status != before:
            differences[name] = status
    return dict(list(differences.items())[:MAX_DIFFERENCES])


def choose_differences(env: Sequence[Manifest], observed: Observed, last_start: Manifest) -> Mapping[str, str]:
    """Return the differences for the pods of the current template: from a report, or else from the last start. {} if
    unknown."""
    runs = (run_of(pod) for pod in observed.current_pods)
    reports: Iterable[Report] = (observed.reports[run] for run in runs if run in observed.reports)
    for report in reports:
        if report.variables is not None:
            return find_differences(env, report.variables)
    template = ((observed.deployment or {}).get("spec") or {}).get("template") or {}
    revision = ((template.get("metadata") or {}).get("annotations") or {}).get(labels.REVISION_ANNOTATION)
    if not revision or last_start.get("revision") != revision:
        return {}
    return {each["name"]: each["status"] for each in last_start.get("variables") or ()}
