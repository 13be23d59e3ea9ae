"""A thinking budget is kept if vLLM can count it, and dropped if vLLM would refuse the request."""

from types import SimpleNamespace
from typing import Any

import pytest

from forebay_server.api_compat.thinking_budget import drop_unenforceable_budget

ENABLED = SimpleNamespace(type="enabled", budget_tokens=1024)


@pytest.mark.parametrize(
    ("thinking", "reasoning", "kept"),
    [
        (ENABLED, SimpleNamespace(enabled=True), True),
        (ENABLED, SimpleNamespace(enabled=False), False),
        (ENABLED, None, False),
        (SimpleNamespace(type="adaptive"), None, True),
        (SimpleNamespace(type="disabled"), None, True),
    ],
)
def test_a_thinking_budget_is_kept_if_it_can_be_counted(thinking: Any, reasoning: Any, kept: bool) -> None:
    request = SimpleNamespace(thinking=thinking)
    dropped = drop_unenforceable_budget(request, SimpleNamespace(reasoning_config=reasoning))
    assert (request.thinking, dropped) == ((thinking, ()) if kept else (None, ("thinking.budget_tokens",)))


def test_requests_without_thinking_are_unchanged() -> None:
    request = SimpleNamespace(messages=[])
    assert drop_unenforceable_budget(request, SimpleNamespace()) == ()
    assert vars(request) == {"messages": []}
