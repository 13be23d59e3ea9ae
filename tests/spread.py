"""How tests are spread over the workers of pytest-xdist: a plugin, `-p tests.spread`.

The tests of a file stay together, in their order, on one worker. (xdist's own `--dist=loadgroup` has no effect with
pytest 9.2, which keeps the ids of tests elsewhere.)
"""

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.scheduler.protocol import Scheduling

GROUPS = {
    # Each operator gives its endpoints the same ports of the gateways, from the first on.
    "tests/integration/test_scaling.py": "gateways of an operator",
    "tests/integration/test_jobs_chaos.py": "gateways of an operator",
    # They give the node GPUs, and remove them.
    "tests/e2e/test_endpoints.py::TestGpus": "gpus",
    "tests/e2e/test_truth.py::test_gpus": "gpus",
    # Each takes half of the node's CPUs.
    "tests/e2e/test_main_job.py": "large",
    "tests/e2e/test_rollouts.py::test_a_failed_surge_change": "large",
}
"""Tests, by the beginning of their ids, that share a resource of this machine and so one worker."""

INDEPENDENT = (
    "tests/e2e/test_scaling.py",
    "tests/e2e/test_endpoints.py::TestHub",
    "tests/e2e/test_rollouts.py",
    "tests/e2e/test_overlay.py",
    "tests/e2e/test_server_image.py",
    "tests/e2e/test_truth.py::test_a_misspelled",
    "tests/e2e/test_truth.py::test_missing_objects",
)
"""Tests that share no resource, so that each runs on any free worker."""

FIRST = (
    "tests/unit/operator/test_fuzz_reconcile.py",
    "tests/unit/operator/test_autoscaling.py",
    "tests/integration/test_scaling.py",
    "tests/integration/test_jobs_chaos.py",
    "tests/integration/test_scale.py",
    "tests/integration/test_faults.py",
    "tests/integration/test_gateway_batches.py",
    "tests/integration/test_gateway_jobs.py",
    "tests/e2e/test_scaling.py",
    "tests/e2e/test_main_job.py",
    "tests/e2e/test_rollouts.py::test_a_failed_surge_change",
    "tests/e2e/test_queues.py",
    "tests/e2e/test_endpoints.py",
    "tests/e2e/test_truth.py",
)
"""The slowest tests begin first, so that no worker runs one alone at the end."""


def find_group(nodeid: str) -> str:
    """The group of a test: the tests of a group run on one worker, one after another."""
    named = [group for begin, group in GROUPS.items() if nodeid.startswith(begin)]
    if named:
        return named[0]
    return nodeid if nodeid.startswith(INDEPENDENT) else nodeid.partition("::")[0]


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """xdist's scheduling by scope, with the groups of this module."""

    def _split_scope(self, nodeid: str) -> str:
        return find_group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """Called by pytest-xdist once, in the process that has the workers."""
    return GroupScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest tests first. The order within a file stays."""
    order = {begin: number for number, begin in enumerate(FIRST)}
    items.sort(
        key=lambda item: min((order[each] for each in FIRST if item.nodeid.startswith(each)), default=len(FIRST))
    )
