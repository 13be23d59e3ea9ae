"""The digests of API keys, and which endpoints a key opens.

The operator keeps them in Secrets of its namespace: under an install key that is random, HMAC-SHA-256 of each API key,
in hex, one a line, under `NAMESPACE.NAME` of its endpoint. The gateway never sees a key but in a request. The digests
under a secret key tell nothing of the keys, and nobody without it can choose one, so looking one up leaks nothing by
its time; the comparison is in constant time all the same.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from forebay_kube import names
from forebay_kube.endpoint_key import EndpointKey


class KeyAuthorizer:
    """Which keys are valid now."""

    def __init__(self) -> None:
        self._secret = b""
        self._shards: dict[str, dict[EndpointKey, frozenset[bytes]]] = {}
        self._opened: dict[bytes, frozenset[EndpointKey]] = {}

    def put_secret(self, name: str, data: Mapping[str, str]) -> None:
        """Take over a Secret's `data` as the API server has it, in base64."""
        if name == names.DIGEST_KEY_SECRET:
            self._secret = _decode(data.get(names.DIGEST_KEY_ENTRY, ""))
            return
        self._shards[name] = {
            (namespace, endpoint): frozenset(_decode(value).split())
            for entry, value in data.items()
            for namespace, _, endpoint in [entry.partition(".")]
        }
        self._index()

    def drop_secret(self, name: str) -> None:
        """The Secret is gone: what it held opens nothing."""
        if name == names.DIGEST_KEY_SECRET:
            self._secret = b""
        elif self._shards.pop(name, None):
            self._index()

    def secret(self) -> bytes:
        """The key of the installation; b"" before it is known."""
        return self._secret

    def authorizes(self, presented: str, key: EndpointKey) -> bool:
        """Whether an API key opens an endpoint; the time it takes says nothing about the right keys."""
        digest = self._digest(presented)
        matches = [
            hmac.compare_digest(digest, valid) for shard in self._shards.values() for valid in shard.get(key, ())
        ]
        return bool(self._secret) and any(matches)

    def endpoints_for(self, presented: str) -> frozenset[EndpointKey]:
        """The endpoints that an API key opens."""
        return self._opened.get(self._digest(presented), frozenset()) if self._secret else frozenset()

    def _digest(self, presented: str) -> bytes:
        return hmac.new(self._secret, presented.encode(), hashlib.sha256).hexdigest().encode()

    def _index(self) -> None:
        opened: dict[bytes, set[EndpointKey]] = {}
        for shard in self._shards.values():
            for key, digests in shard.items():
                for digest in digests:
                    opened.setdefault(digest, set()).add(key)
        self._opened = {digest: frozenset(keys) for digest, keys in opened.items()}


def _decode(value: str) -> bytes:
    """What is no base64, which only somebody else can have written, opens nothing."""
    try:
        return base64.b64decode(value)
    except binascii.Error:
        return b""
