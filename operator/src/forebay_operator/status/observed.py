"""What exists for an endpoint, and the questions that others ask about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from forebay_kube.object_conditions import is_true
from forebay_operator import labels
from forebay_operator.spec import Manifest
from forebay_operator.status.diagnosis import Diagnosis, has_ended
from forebay_operator.status.diagnosis.gpus import Node
from forebay_operator.status.start_progress import Report, server_status


@dataclass(frozen=True)
class Observed:
    """What exists for an endpoint.

    Attributes:
        deployment: its own Deployment, or None.
        pods: all pods that carry its label: those of older revisions, those that leave, even those of a deleted
            endpoint of the same name.
        error: why the operator could not make what is desired, or None.
        env_warnings: one sentence for each variable that is probably misspelt or has no effect.
        conditions: what others say of the endpoint, without transition times.
        reports: what servers said of their start, by their run (start_progress.run_of).
        nodes: the cluster's nodes, or None when they may not or need not be read.
        events: those of the pod that has waited longest for its volumes, where they were asked for.
        scales: whether a request may start the endpoint when it is at zero.
        gateways: how many are ready to hold one.
        asleep: whether its engines sleep, or are about to.
        jobs: how many wait, and how many run.
    """

    deployment: Manifest | None
    pods: Sequence[Manifest]
    error: Diagnosis | None = None
    env_warnings: Sequence[str] = ()
    conditions: Sequence[Manifest] = ()
    reports: Mapping[str, Report] = field(default_factory=dict)
    nodes: Sequence[Node] | None = None
    events: Sequence[Manifest] = ()
    scales: bool = False
    gateways: int = 0
    asleep: bool = False
    jobs: tuple[int, int] = (0, 0)

    @property
    def undeleted(self) -> list[Manifest]:
        """The Deployment's pods that nobody has deleted."""
        if self.deployment is None:
            return []
        return [pod for pod in self.pods if not pod["metadata"].get("deletionTimestamp")]

    @property
    def active(self) -> list[Manifest]:
        """The Deployment's pods that run or will run."""
        return [pod for pod in self.undeleted if not has_ended(pod)]

    @property
    def ready(self) -> list[Manifest]:
        """The pods that answer."""
        return [pod for pod in self.active if is_ready(pod)]

    @property
    def serving(self) -> bool:
        """Whether any pod answers."""
        return bool(self.ready)

    @property
    def stuck_revisions(self) -> frozenset[str]:
        """What the pods that run or will run were made from while none of them answers."""
        return frozenset() if self.serving else frozenset(_revision(pod) or "" for pod in self.active)

    @property
    def current_pods(self) -> list[Manifest]:
        """The pods that were made from the Deployment's template as it is now, those that ended included."""
        return [pod for pod in self.undeleted if self.is_current_revision(pod)]

    def is_current_revision(self, pod: Manifest) -> bool:
        """Whether a pod was made from the Deployment's template as it is now."""
        return self.deployment is not None and _revision(pod) == _revision(self.deployment["spec"]["template"])


def is_ready(pod: Manifest) -> bool:
    """Whether a pod answers."""
    return is_true(pod.get("status"), "Ready")


def has_loaded(pod: Manifest) -> bool:
    """Whether the pod's model has answered, even if requests are not sent there now."""
    container = server_status(pod)
    return is_ready(pod) or bool(container.get("started") and "running" in (container.get("state") or {}))


def _revision(manifest: Manifest) -> str | None:
    revision: str | None = (manifest["metadata"].get("annotations") or {}).get(labels.REVISION_ANNOTATION)
    return revision
