"""max_tokens above the context."""

from types import SimpleNamespace

import pytest

from forebay_server.api_compat.max_tokens import FIELDS, clamp_max_tokens


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(("given", "left"), [(10**7, 4096), (4097, 4096), (4096, 4096), (1, 1), (None, None)])
def test_max_tokens_above_the_context_becomes_the_context(name: str, given: int | None, left: int | None) -> None:
    request = SimpleNamespace(**{name: given})
    clamp_max_tokens(request, 4096)
    assert getattr(request, name) == left
    assert vars(request).keys() == {name}
