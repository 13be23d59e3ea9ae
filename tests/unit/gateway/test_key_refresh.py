"""Which Secrets with keys the operator should read again."""

import pytest

from forebay_gateway.endpoints.key_refresh import PEEKED_BYTES, REFRESH_SECONDS, KeyRefreshRequests, peek_model

ONE, TWO = ("team", "one"), ("team", "two")


def test_endpoints_are_listed_for_some_time_after_a_request() -> None:
    now = [0.0]
    key_refreshes = KeyRefreshRequests(lambda: now[0])
    key_refreshes.note([ONE])
    now[0] = REFRESH_SECONDS - 1
    key_refreshes.note([TWO])
    assert key_refreshes.names() == ["team/one", "team/two"]
    now[0] = REFRESH_SECONDS + 1
    assert key_refreshes.names() == ["team/two"]


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model": "org/model", "messages": []}', "org/model"),
        (b'{"messages": [], "model":"m"}', "m"),
        (b'26\r\n{"model": "in a chunk", "mess', "in a chunk"),
        (b'{"model": 5}', ""),
        (b'{"model": "with \\" quotes"}', ""),
        (b'{"model": "cut of', ""),
        (b"x" * PEEKED_BYTES + b'{"model": "too late"}', ""),
        (b'"model"' * 10_000, ""),
        (b'{"model": "\xff"}', "\ufffd"),
        (b"", ""),
    ],
)
def test_the_model_is_found_at_the_beginning_of_a_body(body: bytes, model: str) -> None:
    assert peek_model(body) == model
