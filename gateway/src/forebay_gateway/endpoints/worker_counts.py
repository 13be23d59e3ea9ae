"""Counts the pods of an endpoint by the states that RunPod's /health has for workers. The job API calls it."""

from forebay_gateway.endpoints.endpoint import Endpoint

NO_CAPACITY = frozenset({"GPUsTaken", "NoSuchGPU", "QuotaExceeded", "Unschedulable"})
"""Reasons of the Ready condition for pods that wait for compute capacity."""

NOT_ANSWERING = "NotAnswering"
"""The step of a server that has started and fails its readiness probe."""


def count_workers(endpoint: Endpoint | None, *, ready: int, unready: int, running: int) -> dict[str, int]:
    """Count pods by RunPod's states. `throttled` pods wait for capacity, and `unhealthy` pods fail. `idle` pods are
    ready and run no job, or sleep.

    The state of pods that are not ready comes from the reason of the endpoint's Ready condition. This is the reason of
    the newest failing pod.

    Args:
        ready, unready: pods that Kubernetes lists with an address. A pod that waits for a node has no address.
        running: ready pods that run a job.
    """
    throttled, unhealthy, starting, asleep = 0, 0, unready, 0
    if endpoint and endpoint.reason == "Idle":
        asleep, starting = unready, 0
    elif endpoint:
        without_address = max(0, endpoint.pods - ready - unready)
        if _waits_for_capacity(endpoint):
            missing = (endpoint.replicas or 0) - ready - unready  # includes pods that a quota does not admit
            throttled = max(without_address, missing)
        elif _fails(endpoint):
            unhealthy, starting = unready + without_address, 0
        else:
            starting += without_address
    return {
        "idle": ready - running + asleep,
        "initializing": starting,
        "ready": ready,
        "running": running,
        "throttled": max(0, throttled),
        "unhealthy": unhealthy,
    }


def _waits_for_capacity(endpoint: Endpoint) -> bool:
    """Whether pods wait for capacity. The message of a Degraded endpoint has the reason."""
    if endpoint.reason == "Degraded":
        return any(f": {word}: " in endpoint.message for word in NO_CAPACITY)
    return endpoint.reason in NO_CAPACITY


def _fails(endpoint: Endpoint) -> bool:
    """Whether the pods that are not ready fail, according to the operator.

    The status has a step while a start is in progress; NOT_ANSWERING is the step of a failure.
    """
    if endpoint.ready:
        return endpoint.reason == "Degraded"
    return endpoint.replicas != 0 and endpoint.reason not in ("", "Pending") and endpoint.step in ("", NOT_ANSWERING)
