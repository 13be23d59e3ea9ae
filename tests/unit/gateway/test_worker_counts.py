"""How RunPod's /health counts pods."""

from typing import Any

import pytest

from forebay_gateway.endpoints.endpoint import read_endpoint
from forebay_gateway.endpoints.worker_counts import NO_CAPACITY, NOT_ANSWERING, count_workers
from forebay_operator.status.diagnosis import reasons
from forebay_operator.status.readiness import NO_SPARE_ROOM, STATES

TAKEN = "1 of 2 replicas ready: GPUsTaken: 0/2 nodes are available: Insufficient nvidia.com/gpu"
CRASHES = "1 of 2 replicas ready: ServerFailed: the server ended with exit code 1"
GOOD = {"idle": 0, "initializing": 0, "ready": 0, "running": 0, "throttled": 0, "unhealthy": 0}

# replicas, pods, status of Ready, its reason and message, the step of a start, ready and unready pods with an address
ROWS: list[tuple[int, int, str, str, str, str, int, int, dict[str, int]]] = [
    (0, 0, "True", "Idle", "", "", 0, 0, {}),
    (1, 1, "True", "Idle", "", "", 0, 1, {"idle": 1}),
    (1, 1, "False", "PullingImage", "", "PullingImage", 0, 0, {"initializing": 1}),
    (2, 2, "False", "Downloading", "", "Downloading", 0, 2, {"initializing": 2}),
    (2, 2, "True", "Ready", "", "", 2, 0, {"ready": 2, "idle": 2}),
    (2, 2, "True", "Updating", "", "", 1, 1, {"ready": 1, "idle": 1, "initializing": 1}),
    (2, 2, "False", "GPUsTaken", "", "", 0, 1, {"initializing": 1, "throttled": 1}),
    (1, 1, "False", "Unschedulable", "", "", 0, 0, {"throttled": 1}),
    (2, 0, "False", "QuotaExceeded", "", "", 0, 0, {"throttled": 2}),
    (2, 2, "True", "Degraded", TAKEN, "", 1, 0, {"ready": 1, "idle": 1, "throttled": 1}),
    (2, 2, "True", "Degraded", CRASHES, "", 1, 1, {"ready": 1, "idle": 1, "unhealthy": 1}),
    (1, 1, "False", "ServerFailed", "", "", 0, 1, {"unhealthy": 1}),
    (1, 1, "False", "PVCMissing", "", "", 0, 0, {"unhealthy": 1}),
    (1, 1, "False", "NotAnswering", "", "NotAnswering", 0, 1, {"unhealthy": 1}),
    (1, 0, "Unknown", "Pending", "", "", 0, 1, {"initializing": 1}),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_workers_are_counted_from_the_status(row: tuple[Any, ...]) -> None:
    replicas, pods, status, reason, message, step, ready, unready, expected = row
    condition = {"type": "Ready", "status": status, "reason": reason, "message": message}
    found = read_endpoint(
        {
            "metadata": {"name": "one", "namespace": "team"},
            "spec": {"replicas": replicas},
            "status": {"replicas": pods, "conditions": [condition], "startup": {"step": step} if step else None},
        }
    )
    assert count_workers(found, ready=ready, unready=unready, running=0) == GOOD | expected


def test_a_removed_endpoint_has_the_listed_pods() -> None:
    assert count_workers(None, ready=2, unready=1, running=1) == GOOD | {
        "idle": 1, "initializing": 1, "ready": 2, "running": 1,
    }  # fmt: skip


def test_the_reasons_are_those_of_the_operator() -> None:
    assert {reasons.NO_SUCH_GPU.name} | NO_SPARE_ROOM == NO_CAPACITY
    assert NOT_ANSWERING in STATES
