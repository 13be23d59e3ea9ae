"""The place of the key in a request."""

import pytest

from forebay_protocol.api_key import read_key


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "key"),
    [
        ("Bearer k", "", "k"),
        ("bearer  k ", "", "k"),
        ("k", "", "k"),
        (" k ", "", "k"),
        ("", " k ", "k"),
        ("Bearer k", "other", "k"),
        ("Bearer k x", "", "k x"),
        ("Bearer", "", ""),
        ("Bearer ", "", ""),
        ("Bearer\tk", "", "k"),
        ("Basic k", "", ""),
        ("Basic k", "k", ""),
        ("", "", ""),
    ],
)
def test_a_key_is_found_as_each_client_sends_it(authorization: str, x_api_key: str, key: str) -> None:
    assert read_key(authorization, x_api_key) == key
