"""Which endpoints a key opens, by digests alone."""

import base64
import hashlib
import hmac

import pytest

from forebay_gateway.endpoints.key_authorizer import KeyAuthorizer

SECRET = b"s" * 32
ONE, TWO = ("team", "one"), ("team", "two")


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def digest(key: str) -> bytes:
    return hmac.new(SECRET, key.encode(), hashlib.sha256).hexdigest().encode()


def made(secret: bytes = SECRET) -> KeyAuthorizer:
    keys = KeyAuthorizer()
    keys.put_secret("forebay-gateway", {"digest-key": encoded(secret)})
    entries = {"team.one": encoded(digest("a") + b"\n" + digest("b")), "team.two": encoded(digest("b"))}
    keys.put_secret("forebay-gateway-keys-3", entries)
    return keys


def test_a_key_opens_its_endpoints() -> None:
    keys = made()
    assert [keys.opens(key, ONE) for key in "abc"] == [True, True, False]
    assert [keys.opens(key, TWO) for key in "abc"] == [False, True, False]
    assert keys.opened_by("b") == {ONE, TWO}
    assert keys.opened_by("c") == frozenset()


def test_a_digest_is_no_key() -> None:
    assert not made().opens(digest("a").decode(), ONE)


def test_a_shard_that_changes_or_goes_takes_its_keys_along() -> None:
    keys = made()
    keys.put_secret("forebay-gateway-keys-3", {"team.two": encoded(digest("c"))})
    assert not keys.opens("a", ONE)
    assert keys.opened_by("c") == {TWO}
    keys.drop_secret("forebay-gateway-keys-3")
    assert keys.opened_by("c") == frozenset()


def test_without_the_install_key_nothing_opens() -> None:
    keys = KeyAuthorizer()
    empty = hmac.new(b"", b"a", hashlib.sha256).hexdigest().encode()
    keys.put_secret("forebay-gateway-keys-3", {"team.one": encoded(empty)})
    assert not keys.opens("a", ONE)
    assert keys.opened_by("a") == frozenset()
    found = made()
    found.drop_secret("forebay-gateway")
    assert not found.opens("a", ONE)


@pytest.mark.parametrize("value", ["", "x", encoded(b"\xff\x00"), encoded(b"\n\n")])
def test_an_entry_that_holds_no_digest_opens_nothing(value: str) -> None:
    keys = made()
    keys.put_secret("forebay-gateway-keys-3", {"team.one": value, "no dot": value})
    assert not keys.opens("", ONE)
    assert not keys.opens("a", ONE)
