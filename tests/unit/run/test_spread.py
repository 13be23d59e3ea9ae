"""Which tests stay together on one worker."""

import pytest

from cluster.pins import ROOT
from tests.spread import FIRST, GROUPS, INDEPENDENT, find_group


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("tests/a/test_b.py::test_c", "tests/a/test_b.py::TestD::test_e[1]", True),
        ("tests/a/test_b.py::test_c", "tests/a/test_c.py::test_c", False),
        ("tests/integration/test_scaling.py::test_a", "tests/integration/test_jobs_chaos.py::test_b", True),
        ("tests/e2e/test_endpoints.py::TestGpus::test_a", "tests/e2e/test_truth.py::test_gpus_that_others_use", True),
        ("tests/e2e/test_scaling.py::test_a", "tests/e2e/test_scaling.py::test_b", False),
    ],
)
def test_a_file_stays_together_unless_a_group_says_otherwise(one: str, other: str, together: bool) -> None:
    assert (find_group(one) == find_group(other)) is together


def test_every_named_file_exists() -> None:
    for name in (*GROUPS, *INDEPENDENT, *FIRST):
        path, _, test = name.partition("::")
        assert test in (ROOT / path).read_text(), name
