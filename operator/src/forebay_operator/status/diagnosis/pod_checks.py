"""Diagnoses why an endpoint's pods do not run, by an ordered table of checks of a pod's status.

A check is a function from a pod to a `Diagnosis` or None. The newest failing pod decides for the endpoint. To add a
check, write the function, put it into `CHECKS`, and add a row to tests/unit/operator/test_diagnosis.py. If causes
differ only in the text of another program, wordings.py has this text.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from forebay_kube.object_conditions import find_condition
from forebay_operator.labels import CONTAINER, INIT_CONTAINER
from forebay_operator.spec import Manifest
from forebay_operator.status.diagnosis import reasons
from forebay_operator.status.diagnosis.reasons import Diagnosis
from forebay_operator.status.diagnosis.wordings import CONFIGURATION, IMAGES, SCHEDULER, quote, recognize
from forebay_operator.status.start_progress import ended_run_of, server_status
from forebay_protocol.pod import EXIT_CONFIGURATION

REASON = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
"""The form of a condition's reason. The CRD rejects anything else."""

MAX_POD_MESSAGE_LENGTH = 1000
"""Characters of another program's text that are kept in a message."""

IMAGE_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
"""The kubelet's reasons for an image that cannot be pulled (pkg/kubelet/images/types.go)."""

Check = Callable[[Manifest], Diagnosis | None]


def diagnose_pods(pods: Iterable[Manifest], steps_seen: Mapping[str, str] = MappingProxyType({})) -> Diagnosis | None:
    """Diagnose the newest failing pod. Returns None if no pod fails.

    Pods that have ended for good, such as evicted ones, stay in the API. They are diagnosed only while no other pod
    exists. `steps_seen` has the last known step of each run of a server (start_progress.run_of).
    """
    newest_first = sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)
    running = [pod for pod in newest_first if not has_ended(pod)]
    for pod in running or newest_first:
        for check in CHECKS:
            if diagnosis := check(pod):
                step = steps_seen.get(ended_run_of(pod))
                if step and check is check_startup_timeout:
                    return replace(diagnosis, message=f"{diagnosis.message}; it was at the step {step}")
                return diagnosis
    return None


def has_ended(pod: Manifest) -> bool:
    """Whether the pod will never run again."""
    return (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")


def explain_end(pod: Manifest) -> str:
    """The reason why a pod ended for good, in a few words; "" if unknown."""
    diagnosis = check_node(pod)
    return diagnosis.message if diagnosis else ""


def check_unschedulable(pod: Manifest) -> Diagnosis | None:
    """No node fits the pod. The scheduler keeps trying, so this is never a stall."""
    condition = find_condition(pod.get("status"), "PodScheduled")
    if condition.get("status") != "False" or condition.get("reason") not in ("Unschedulable", "SchedulerError"):
        return None
    return recognize(SCHEDULER, str(condition.get("message", "")), MAX_POD_MESSAGE_LENGTH)


def check_image(pod: Manifest) -> Diagnosis | None:
    """The image of a container or of a volume cannot be pulled. The kubelet keeps trying."""
    waiting = _find_waiting(pod)
    reason = waiting.get("reason")
    if reason not in IMAGE_REASONS:
        return None
    if reason == "InvalidImageName":
        return reasons.INVALID_IMAGE_NAME.diagnose(_quote_message(waiting))
    return recognize(IMAGES, f"{reason}: {_quote_message(waiting)}")


def check_reference(pod: Manifest) -> Diagnosis | None:
    """A Secret or a ConfigMap that env or envFrom refers to is missing."""
    waiting = _find_waiting(pod)
    if waiting.get("reason") != "CreateContainerConfigError":
        return None
    return recognize(CONFIGURATION, _quote_message(waiting))


def check_container(pod: Manifest) -> Diagnosis | None:
    """The node cannot create the container, for a reason that only its runtime knows."""
    waiting = _find_waiting(pod)
    if waiting.get("reason") in ("CreateContainerError", "RunContainerError", "PreStartHookError"):
        return reasons.CONTAINER_REFUSED.diagnose(_quote_message(waiting))
    ended = _last_end(pod)
    return reasons.CONTAINER_REFUSED.diagnose(_quote_message(ended)) if ended.get("reason") == "StartError" else None


def check_overlay(pod: Manifest) -> Diagnosis | None:
    """The init container could not copy the server."""
    status = _init_status(pod)
    ends = ((status.get(when) or {}).get("terminated") or {} for when in ("state", "lastState"))
    ended: Manifest = next(filter(None, ends), {})
    if not ended.get("exitCode"):
        return None
    return reasons.OVERLAY_FAILED.diagnose(_quote_message(ended))


def check_node(pod: Manifest) -> Diagnosis | None:
    """The kubelet ended the pod or never admitted it: Evicted, UnexpectedAdmissionError, OutOfcpu, NodeShutdown …"""
    status = pod.get("status") or {}
    if status.get("phase") != "Failed" or not status.get("reason"):
        return None
    reason = str(status["reason"])
    message = f"{reason}: {str(status.get('message', ''))[:MAX_POD_MESSAGE_LENGTH]}"
    if reason == "Evicted":
        return reasons.EVICTED.diagnose(message)
    refused = reason.startswith("OutOf") or reason in (
        "UnexpectedAdmissionError",
        "NodeAffinity",
        "TopologyAffinityError",
    )
    return (reasons.NODE_REFUSED if refused else reasons.ENDED_BY_NODE).diagnose(message)


def check_termination_message(pod: Manifest) -> Diagnosis | None:
    """The server said why it ended: one line of JSON with reason, message and remedy in the termination log.

    Another image may have written anything. `check_crash` handles texts of another form.
    """
    ended = _last_end(pod)
    try:
        content = json.loads(ended.get("message", ""))
    except ValueError:
        return None
    texts = [content.get(name, "") for name in ("reason", "message", "remedy")] if isinstance(content, dict) else []
    if not texts or not all(isinstance(word, str) for word in texts) or not REASON.fullmatch(texts[0]):
        return None
    stalled = ended.get("exitCode") == EXIT_CONFIGURATION
    return Diagnosis(texts[0], texts[1][:MAX_POD_MESSAGE_LENGTH], texts[2][:MAX_POD_MESSAGE_LENGTH], stalled)


def check_out_of_memory(pod: Manifest) -> Diagnosis | None:
    """The kernel killed the server for its memory limit."""
    if _last_end(pod).get("reason") != "OOMKilled":
        return None
    limits: Manifest = _server_container(pod).get("resources", {}).get("limits") or {}
    limit = f"the memory limit of {limits['memory']}" if "memory" in limits else "the memory of its node"
    return reasons.OUT_OF_MEMORY.diagnose(f"the server needed more than {limit}")


def check_startup_timeout(pod: Manifest) -> Diagnosis | None:
    """The kubelet ended a server that never answered its startup probe. Only the times in the pod's status show it."""
    ended, allowed = _last_end(pod), startup_seconds(pod)
    began, end = ended.get("startedAt"), ended.get("finishedAt")
    if ended.get("exitCode") not in (0, 137, 143) or not (allowed and began and end) or _was_ready_after(pod, began):
        return None
    if (datetime.fromisoformat(end) - datetime.fromisoformat(began)).total_seconds() < allowed:
        return None
    return reasons.STARTUP_TIMEOUT.diagnose(f"the model did not answer within {allowed} s")


def check_crash(pod: Manifest) -> Diagnosis | None:
    """The server ended, and no earlier check has found out why."""
    ended = _last_end(pod)
    if not ended:
        return None
    cause = f": {_quote_message(ended)}" if ended.get("message") else ""
    restarts = server_status(pod).get("restartCount", 0)
    times = f", {restarts + 1} times now" if restarts > 1 else ""
    message = f"the server ended with exit code {ended.get('exitCode')}{times}{cause}"
    return reasons.SERVER_FAILED.diagnose(message, pod=pod["metadata"]["name"])


CHECKS: tuple[Check, ...] = (
    check_unschedulable,
    check_image,
    check_reference,
    check_container,
    check_overlay,
    check_node,
    check_out_of_memory,
    check_termination_message,
    check_startup_timeout,
    check_crash,
)


def startup_seconds(pod: Manifest) -> int:
    """The seconds that the pod's startup probe allows; 0 without a probe."""
    probe: Manifest = _server_container(pod).get("startupProbe") or {}
    return int(probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)) if probe else 0


def _was_ready_after(pod: Manifest, moment: str) -> bool:
    """Whether the pod stopped being ready later than at `moment`."""
    since: str = find_condition(pod["status"], "Ready").get("lastTransitionTime") or ""
    return bool(since) and datetime.fromisoformat(since) > datetime.fromisoformat(moment)


def _server_container(pod: Manifest) -> Manifest:
    containers: list[Manifest] = pod["spec"].get("containers") or []
    return next((container for container in containers if container["name"] == CONTAINER), {})


def _init_status(pod: Manifest) -> Manifest:
    """The status of the init container that copies the server; empty without one."""
    statuses: list[Manifest] = (pod.get("status") or {}).get("initContainerStatuses") or []
    return next((status for status in statuses if status["name"] == INIT_CONTAINER), {})


def _find_waiting(pod: Manifest) -> Manifest:
    """Return the waiting state of the init container, or else of the server. Empty if neither waits."""
    found: Manifest = (_init_status(pod).get("state") or {}).get("waiting") or _container_state(pod, "state", "waiting")
    return found


def _quote_message(state: Manifest) -> str:
    return quote(str(state.get("message") or state.get("reason", "")), MAX_POD_MESSAGE_LENGTH)


def _last_end(pod: Manifest) -> Manifest:
    """The last end of the server in an unready pod; empty if there is none."""
    if server_status(pod).get("ready"):
        return {}
    return _container_state(pod, "state", "terminated") or _container_state(pod, "lastState", "terminated")


def _container_state(pod: Manifest, when: str, state: str) -> Manifest:
    details: Manifest = (server_status(pod).get(when) or {}).get(state) or {}
    return details
