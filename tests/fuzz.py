"""How many cases of outside input hypothesis tries: 300 cases in `make test`, 10,000 in `make soak`."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

CASES = int(os.environ.get("FOREBAY_FUZZ", "300"))


def fuzzed(test: Callable[..., Any]) -> Callable[..., Any]:
    """A test of hypothesis that tries so many cases. Put it above @given."""
    tried = settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.too_slow])(test)
    return pytest.mark.fuzz(tried)  # type: ignore[no-any-return]


def json_values(*names: str) -> st.SearchStrategy[Any]:
    """Any JSON, with these names of fields where it has objects."""
    scalars = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.sampled_from([10**400, -1, 2**63, 1e308])
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=8)
        | st.sampled_from(names)
    )
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(names), inner, max_size=5),
        max_leaves=12,
    )
