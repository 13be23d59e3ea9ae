"""Which endpoints a key opens, by digests alone."""

import hashlib
import hmac

import pytest

from forebay_gateway.endpoints.key_authorizer import KeyAuthorizer
from tests.unit.gateway.pending import digest, encoded, made

ONE, TWO = ("team", "one"), ("team", "two")


def test_a_key_authorizes_its_endpoints() -> None:
    keys = made()
    assert [keys.authorizes(key, ONE) for key in "abc"] == [True, True, False]
    assert [keys.authorizes(key, TWO) for key in "abc"] == [False, True, False]
    assert keys.endpoints_for("b") == {ONE, TWO}
    assert keys.endpoints_for("c") == frozenset()


def test_a_digest_is_not_accepted_as_a_key() -> None:
    assert not made().authorizes(digest("a").decode(), ONE)


def test_keys_of_a_changed_or_deleted_shard_are_removed() -> None:
    keys = made()
    keys.put_secret("forebay-gateway-keys-3", {"team.two": encoded(digest("c"))})
    assert not keys.authorizes("a", ONE)
    assert keys.endpoints_for("c") == {TWO}
    keys.drop_secret("forebay-gateway-keys-3")
    assert keys.endpoints_for("c") == frozenset()


def test_without_the_install_key_no_key_is_accepted() -> None:
    keys = KeyAuthorizer()
    empty = hmac.new(b"", b"a", hashlib.sha256).hexdigest().encode()
    keys.put_secret("forebay-gateway-keys-3", {"team.one": encoded(empty)})
    assert not keys.authorizes("a", ONE)
    assert keys.endpoints_for("a") == frozenset()
    found = made()
    found.drop_secret("forebay-gateway")
    assert not found.authorizes("a", ONE)


@pytest.mark.parametrize("value", ["", "x", encoded(b"\xff\x00"), encoded(b"\n\n")])
def test_an_entry_without_a_digest_authorizes_nothing(value: str) -> None:
    keys = made()
    keys.put_secret("forebay-gateway-keys-3", {"team.one": value, "no dot": value})
    assert not keys.authorizes("", ONE)
    assert not keys.authorizes("a", ONE)
