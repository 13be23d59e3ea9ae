"""The state of an endpoint that the reconciler observed, with the views that readiness and conditions need.

The reconciler creates one in each reconcile. Nothing in `status/` reads the cluster itself.
"""

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
    """The observed state of an endpoint.

    Attributes:
        deployment: its own Deployment, or None.
        pods: all pods with its label, also pods of older revisions, terminating pods, and pods of a deleted endpoint
            of the same name.
        error: why the operator could not create the desired children, or None.
        env_warnings: one sentence for each variable that is probably misspelt or has no effect.
        conditions: conditions from other modules, without transition times.
        reports: the servers' reports of their start, by run (start_progress.run_of).
        nodes: the cluster's nodes, or None if they cannot or need not be read.
        events: the events of the pod that has waited longest for its volumes, if they were read.
        scales: whether a request may start the endpoint while it is at zero.
        gateways: the number of ready gateways, which hold requests at zero.
        asleep: whether its engines sleep, or are about to.
        addresses: the URLs of the endpoint, for the status.
        jobs: the number of queued jobs and of running jobs.
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
    addresses: Sequence[Manifest] = ()
    jobs: tuple[int, int] = (0, 0)

    @property
    def undeleted(self) -> list[Manifest]:
        """The Deployment's pods without a deletion timestamp."""
        if self.deployment is None:
            return []
        return [pod for pod in self.pods if not pod["metadata"].get("deletionTimestamp")]

    @property
    def active(self) -> list[Manifest]:
        """The Deployment's pods that run or will run."""
        return [pod for pod in self.undeleted if not has_ended(pod)]

    @property
    def ready(self) -> list[Manifest]:
        """The active pods that are ready."""
        return [pod for pod in self.active if is_ready(pod)]

    @property
    def serving(self) -> bool:
        """Whether any pod is ready."""
        return bool(self.ready)

    @property
    def stuck_revisions(self) -> frozenset[str]:
        """The revisions of the active pods while none of them is ready; empty if one is."""
        return frozenset() if self.serving else frozenset(_revision(pod) or "" for pod in self.active)

    @property
    def current_pods(self) -> list[Manifest]:
        """The pods of the Deployment's current template, ended ones included."""
        return [pod for pod in self.undeleted if self.is_current_revision(pod)]

    def is_current_revision(self, pod: Manifest) -> bool:
        """Whether a pod was created from the Deployment's current template."""
        return self.deployment is not None and _revision(pod) == _revision(self.deployment["spec"]["template"])


def is_ready(pod: Manifest) -> bool:
    """Whether a pod is ready."""
    return is_true(pod.get("status"), "Ready")


def has_loaded(pod: Manifest) -> bool:
    """Whether the pod has loaded its model, even if it gets no requests now."""
    container = server_status(pod)
    return is_ready(pod) or bool(container.get("started") and "running" in (container.get("state") or {}))


def _revision(manifest: Manifest) -> str | None:
    revision: str | None = (manifest["metadata"].get("annotations") or {}).get(labels.REVISION_ANNOTATION)
    return revision
