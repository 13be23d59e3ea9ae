"""Why an endpoint's pods do not run: an ordered table of checks over what Kubernetes reports.

A check is a function from a pod to a `Diagnosis` or None. The newest pod that fails speaks for the endpoint. To add
one, write the function, put it into `CHECKS`, and add a row to tests/unit/operator/test_diagnosis.py.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from forebay_operator.names import CONTAINER
from forebay_operator.types import Manifest

EXIT_CONFIGURATION = 78
"""Exit code of a server that only a user's change can help: EX_CONFIG of sysexits.h."""

REASON = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
"""What the reason of a condition may be; the CRD refuses anything else."""

MAX_WORDS = 1000
"""Characters of somebody else's text that go into a message."""


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong and what to do.

    Attributes:
        reason: one CamelCase word, the reason of the Ready condition.
        message: what was seen, in the words of the part that saw it.
        remedy: what the user can do.
        stalled: whether nothing but a user's change can mend it.
    """

    reason: str
    message: str
    remedy: str = ""
    stalled: bool = False

    @property
    def text(self) -> str:
        """Message and remedy as the sentences of a condition."""
        sentences = (sentence.strip().rstrip(".") for sentence in (self.message, self.remedy))
        return ". ".join(sentence for sentence in sentences if sentence)


Check = Callable[[Manifest], Diagnosis | None]


def diagnose_pods(pods: Iterable[Manifest]) -> Diagnosis | None:
    """What the newest failing pod suffers from, or None when none fails.

    Pods that have ended for good, such as evicted ones, stay in the API; they speak only while nothing has replaced
    them.
    """
    found = sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)
    living = [pod for pod in found if pod.get("status", {}).get("phase") not in ("Failed", "Succeeded")]
    for pod in living or found:
        for check in CHECKS:
            if diagnosis := check(pod):
                return diagnosis
    return None


def check_unschedulable(pod: Manifest) -> Diagnosis | None:
    """No node takes the pod. The scheduler goes on trying, so this is never a stall."""
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            if condition.get("reason") != "Unschedulable":
                return None
            remedy = "Free or add such a node, or ask for less in spec.gpu and spec.resources"
            return Diagnosis("Unschedulable", condition.get("message", "")[:MAX_WORDS], remedy)
    return None


def check_image(pod: Manifest) -> Diagnosis | None:
    """The server image or the model image cannot be pulled. The kubelet goes on trying."""
    waiting = _container_state(pod, "state", "waiting")
    if waiting.get("reason") not in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"):
        return None
    remedy = "Check the image in spec.image or spec.model, and that the nodes may pull it"
    return Diagnosis("ImagePullFailed", _words(waiting), remedy, stalled=waiting["reason"] == "InvalidImageName")


def check_reference(pod: Manifest) -> Diagnosis | None:
    """A Secret or a ConfigMap that env or envFrom refers to is missing."""
    waiting = _container_state(pod, "state", "waiting")
    if waiting.get("reason") != "CreateContainerConfigError":
        return None
    return Diagnosis("ReferenceMissing", _words(waiting), "Create what spec.env or spec.envFrom refers to")


def check_container(pod: Manifest) -> Diagnosis | None:
    """The node cannot make the container, for a reason that only its runtime knows."""
    waiting = _container_state(pod, "state", "waiting")
    if waiting.get("reason") not in ("CreateContainerError", "RunContainerError"):
        return None
    return Diagnosis("ContainerRefused", _words(waiting), "Check spec.image, and the node's container runtime")


def check_node_refusal(pod: Manifest) -> Diagnosis | None:
    """The kubelet ended the pod or never took it: Evicted, UnexpectedAdmissionError, NodeShutdown and others."""
    status = pod.get("status", {})
    if status.get("phase") != "Failed" or not status.get("reason"):
        return None
    reason, words = str(status["reason"]), str(status.get("message", ""))[:MAX_WORDS]
    remedy = "Give the pod what it needs in spec.resources, or look at the node"
    return Diagnosis("EndedByNode", f"{reason}: {words}", remedy)


def check_server_words(pod: Manifest) -> Diagnosis | None:
    """The server said why it ended: one line of JSON with reason, message and remedy in the termination log.

    Another image may have written anything, so what is not of that form is left to `check_crash`.
    """
    ended = _last_end(pod)
    try:
        said = json.loads(ended.get("message", ""))
    except ValueError:
        return None
    words = [said.get(name, "") for name in ("reason", "message", "remedy")] if isinstance(said, dict) else []
    if not words or not all(isinstance(word, str) for word in words) or not REASON.fullmatch(words[0]):
        return None
    stalled = ended.get("exitCode") == EXIT_CONFIGURATION
    return Diagnosis(words[0], words[1][:MAX_WORDS], words[2][:MAX_WORDS], stalled)


def check_out_of_memory(pod: Manifest) -> Diagnosis | None:
    """The kernel ended the server for its memory limit."""
    if _last_end(pod).get("reason") != "OOMKilled":
        return None
    containers = pod["spec"]["containers"]
    limits: Manifest = next(
        (c.get("resources", {}).get("limits") or {} for c in containers if c["name"] == CONTAINER), {}
    )
    limit = f"the memory limit of {limits['memory']}" if "memory" in limits else "the memory of its node"
    return Diagnosis("OutOfMemory", f"the server needed more than {limit}", "Raise spec.resources.limits.memory")


def check_crash(pod: Manifest) -> Diagnosis | None:
    """The server ended and said nothing that the checks before this one understand."""
    ended = _last_end(pod)
    if not ended:
        return None
    words = f": {_words(ended)}" if ended.get("message") else ""
    message = f"the server ended with exit code {ended.get('exitCode')}{words}"
    return Diagnosis("ServerFailed", message, f"See kubectl logs --previous {pod['metadata']['name']}")


CHECKS: tuple[Check, ...] = (
    check_unschedulable,
    check_image,
    check_reference,
    check_container,
    check_node_refusal,
    check_out_of_memory,
    check_server_words,
    check_crash,
)


def _words(state: Manifest) -> str:
    return str(state.get("message") or state.get("reason", ""))[:MAX_WORDS]


def _last_end(pod: Manifest) -> Manifest:
    """How the server of an unready pod ended last, or nothing."""
    status = _container_status(pod)
    if status.get("ready"):
        return {}
    return _container_state(pod, "state", "terminated") or _container_state(pod, "lastState", "terminated")


def _container_state(pod: Manifest, when: str, state: str) -> Manifest:
    found: Manifest = (_container_status(pod).get(when) or {}).get(state) or {}
    return found


def _container_status(pod: Manifest) -> Manifest:
    statuses: list[dict[str, Any]] = pod.get("status", {}).get("containerStatuses") or []
    return next((status for status in statuses if status["name"] == CONTAINER), {})
