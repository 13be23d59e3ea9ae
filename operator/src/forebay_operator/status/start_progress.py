"""Computes the progress of a pod's start and the time of its steps, from the pod's status and the server's reports.

Pure. readiness.py, conditions.py and the startup poller call it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice, pairwise
from typing import Any

from forebay_kube.object_conditions import find_condition, is_true
from forebay_operator.labels import CONTAINER, REVISION_ANNOTATION
from forebay_operator.spec import Manifest

SERVER_STEPS = {
    "Importing": ("importing", "the server is importing vLLM"),
    "Downloading": ("downloading", "the model is being downloaded"),
    "LoadingWeights": ("loading", "the weights are being loaded"),
    "Compiling": ("compiling", "kernels and graphs are being compiled"),
    "WarmingUp": ("warmingUp", "the model is answering its first request"),
    "Ready": ("", "the model has answered"),
}
"""Steps that a server reports, in their order (docs/lifecycle.md): name in status.lastStart, and a sentence."""

FIRST_SERVER_STAGE = 4
"""The number of the first stage that the server reports. The stages before it are Kubernetes' own: see `stage_of`."""

MAX_POLLED_PODS = 3
"""The most loading pods of one endpoint that are polled. The oldest pods are polled, because they are the furthest
along."""

_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_-]{0,63}")
"""The form of a version of vLLM."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,252}")
_STATUS = re.compile(r"[a-z][a-z-]{0,15}")
"""The forms of a reported variable, and of its status in the server's catalogue."""

MAX_REVISION = 64
"""The most characters of a revision that the schema allows."""

MAX_VARIABLES = 512
"""The most variables of a report that are read."""

_PARSER = re.compile(r"[a-z][a-z0-9_-]{0,63}")
"""The form of the name of a parser of vLLM."""

MAX_NUMBER = 2**53
"""The largest number that a report may have. A larger one does not come from Forebay's server."""


@dataclass(frozen=True)
class Report:
    """A server's report of its start (docs/lifecycle.md).

    Attributes:
        step: one of SERVER_STEPS.
        seconds: step -> seconds that it took, or has taken so far.
        progress: percent, bytesPerSecond and etaSeconds, if they are known.
        reasoning_parser: the parser that the model's family needs and that env does not set; "" for none.
        vllm_version: the version of the image's vLLM; "" if unknown.
        variables: the names of the pod's environment that its vLLM or the server knows, with their status. None if the
            pod does not report them.
    """

    step: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    progress: Mapping[str, int] = field(default_factory=dict)
    reasoning_parser: str = ""
    vllm_version: str = ""
    variables: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Stage:
    """A stage of a pod's start. Later stages have higher numbers. `step` is the reason of the Ready condition."""

    number: int
    step: str
    message: str
    progress: Mapping[str, int] = field(default_factory=dict)


def parse_report(content: Any) -> Report | None:
    """Parse a pod's answer. Returns None if it is not a report, because a pod can run any image."""
    step = content.get("step") if isinstance(content, dict) else None
    if not isinstance(step, str) or step not in SERVER_STEPS:
        return None
    seconds = content.get("seconds")
    times = {step: seconds[step] for step in SERVER_STEPS if step in seconds} if isinstance(seconds, dict) else {}
    progress = {name: content.get(name) for name in ("percent", "bytesPerSecond", "etaSeconds")}
    return Report(
        step,
        {step: float(value) for step, value in times.items() if _is_number(value)},
        {name: round(value) for name, value in progress.items() if value is not None and _is_number(value)},
        _read_text(content.get("reasoningParser"), _PARSER),
        _read_text(content.get("vllmVersion"), _VERSION),
        _read_variables(content.get("variables")),
    )


def _read_text(value: object, form: re.Pattern[str]) -> str:
    return value if isinstance(value, str) and form.fullmatch(value) else ""


def _read_variables(content: object) -> Mapping[str, str] | None:
    if not isinstance(content, dict):
        return None
    return {
        name: status
        for name, status in islice(content.items(), MAX_VARIABLES)
        if _VARIABLE.fullmatch(name) and _read_text(status, _STATUS)
    }


def run_of(pod: Manifest) -> str:
    """The name of the current run of the pod's server: the pod's uid and the container's restart count."""
    return f"{pod['metadata'].get('uid', '')}/{server_status(pod).get('restartCount', 0)}"


def ended_run_of(pod: Manifest) -> str:
    """The name of the run that ended last: the previous one if the container runs again, else the current one."""
    container = server_status(pod)
    is_restarted = "running" in (container.get("state") or {})
    return f"{pod['metadata'].get('uid', '')}/{container.get('restartCount', 0) - is_restarted}"


def find_furthest(pods: Sequence[Manifest], reports: Mapping[str, Report]) -> Stage:
    """The stage of the pod that is furthest along. `reports` are by run (`run_of`)."""
    stages = [stage_of(pod, reports.get(run_of(pod))) for pod in pods]
    nothing = Stage(0, "Scheduling", "pods are being created")
    return max(stages, key=lambda stage: (stage.number, stage.progress.get("percent", 0)), default=nothing)


def stage_of(pod: Manifest, report: Report | None) -> Stage:
    """The stage of one pod."""
    container = server_status(pod)
    if "running" in (container.get("state") or {}):
        if container.get("started"):
            message = "the server runs but its readiness probe fails; it may be overloaded"
            return Stage(FIRST_SERVER_STAGE + len(SERVER_STEPS), "NotAnswering", message)
        if report is None or report.step == "Ready":
            return Stage(FIRST_SERVER_STAGE - 1, "Starting", "the server is loading the model")
        return _server_stage(report)
    if is_true(pod.get("status"), "PodReadyToStartContainers"):
        return Stage(2, "PullingImage", "the node is pulling the images")
    scheduled = find_condition(pod.get("status"), "PodScheduled")
    if scheduled.get("status") == "True":
        return Stage(1, "PreparingPod", "the node is preparing volumes and network")
    if scheduled.get("reason") == "SchedulingGated":
        return Stage(0, "Scheduling", "a scheduling gate holds the pod, such as that of a queue for GPUs")
    return Stage(0, "Scheduling", "a node is being chosen")


def _server_stage(report: Report) -> Stage:
    percent, rate, eta = (report.progress.get(name) for name in ("percent", "bytesPerSecond", "etaSeconds"))
    parts = [
        SERVER_STEPS[report.step][1],
        "" if percent is None else f"{percent} %",
        f"{rate / 1e6:.1f} MB/s" if rate else "",
        "" if eta is None else f"{eta} s left",
    ]
    number = FIRST_SERVER_STAGE + list(SERVER_STEPS).index(report.step)
    return Stage(number, report.step, ", ".join(filter(None, parts)), report.progress)


def measure_start(pod: Manifest, report: Report) -> dict[str, int]:
    """The seconds of each step of a pod's start, as in status.lastStart.

    `scheduling` ends when a node is chosen, `preparing` when volumes and network exist, `pulling` when the container
    runs. These three are unknown for a restarted container. The server measures the other steps.
    """
    created = pod["metadata"].get("creationTimestamp")
    reached = (find_condition(pod.get("status"), kind) for kind in ("PodScheduled", "PodReadyToStartContainers"))
    times = (
        created,
        *(each.get("lastTransitionTime") if each.get("status") == "True" else None for each in reached),
        started_at(pod),
    )
    steps = {}
    if not server_status(pod).get("restartCount") and all(times):
        moments = [datetime.fromisoformat(str(time)) for time in times]
        spans = [(after - before).total_seconds() for before, after in pairwise(moments)]
        steps = dict(zip(("scheduling", "preparing", "pulling"), (max(0, round(span)) for span in spans), strict=True))
    measured = {SERVER_STEPS[step][0]: round(seconds) for step, seconds in report.seconds.items() if step != "Ready"}
    return {**steps, **measured}


def find_unread(pods: Sequence[Manifest], last_start: Manifest, reports: Mapping[str, Report]) -> list[Manifest]:
    """The pods that should be polled for a report.

    These are the oldest pods that load, up to MAX_POLLED_PODS. The newest loaded pod is also among them, unless
    status.lastStart already describes this pod or a later one.
    """
    running = sorted((pod for pod in pods if started_at(pod)), key=started_at)
    loading = [pod for pod in running if not server_status(pod).get("started")]
    loaded = [pod for pod in running if server_status(pod).get("started")][-1:]
    known = last_start.get("startedAt", "")
    return loading[:MAX_POLLED_PODS] + [
        pod for pod in loaded if started_at(pod) > known and not _is_complete(pod, reports)
    ]


def find_last_start(pods: Sequence[Manifest], reports: Mapping[str, Report], before: Manifest) -> Manifest:
    """Build status.lastStart from the loaded pod that was started last. Returns `before` if no pod was started
    later."""
    loaded = [pod for pod in pods if server_status(pod).get("started") and _is_complete(pod, reports)]
    last_started = max(loaded, key=started_at, default=None)
    if last_started is None or started_at(last_started) <= before.get("startedAt", ""):
        return before
    seconds = measure_start(last_started, reports[run_of(last_started)])
    start = {"pod": last_started["metadata"]["name"], "startedAt": started_at(last_started), "seconds": seconds}
    report = reports[run_of(last_started)]
    revision = (last_started["metadata"].get("annotations") or {}).get(REVISION_ANNOTATION, "")[:MAX_REVISION]
    known = {"revision": revision, "reasoningParser": report.reasoning_parser, "vllmVersion": report.vllm_version}
    return {**start, **{name: value for name, value in known.items() if value}}


def started_at(pod: Manifest) -> str:
    """The start time of the pod's server, in RFC 3339 and UTC as the kubelet writes it; "" if it does not run."""
    running = (server_status(pod).get("state") or {}).get("running") or {}
    return str(running.get("startedAt") or "")


def _is_complete(pod: Manifest, reports: Mapping[str, Report]) -> bool:
    report = reports.get(run_of(pod))
    return report is not None and report.step == "Ready"


def server_status(pod: Manifest) -> Manifest:
    """The status of the pod's server container, empty before there is one."""
    statuses: Sequence[Manifest] = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((status for status in statuses if status["name"] == CONTAINER), {})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= MAX_NUMBER  # False for NaN too
