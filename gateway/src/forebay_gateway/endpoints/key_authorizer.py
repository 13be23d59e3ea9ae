"""Decides which endpoints an API key authorizes, by digests of the keys. The watches fill it; the handler calls it.

The operator writes the digests into Secrets of its namespace: HMAC-SHA-256 of each API key under a random key of the
installation, in hex, one per line, in an entry `NAMESPACE.NAME`. The gateway sees a key only in requests. A client
would need the random key to learn an API key from a digest, or to choose a digest. So the time of a lookup leaks
nothing. The comparison takes constant time all the same.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from forebay_kube import names
from forebay_kube.endpoint_key import EndpointKey


class KeyAuthorizer:
    """The digests of all valid keys."""

    def __init__(self) -> None:
        self._secret = b""
        self._shards: dict[str, dict[EndpointKey, frozenset[bytes]]] = {}
        self._opened: dict[bytes, frozenset[EndpointKey]] = {}

    def put_secret(self, name: str, data: Mapping[str, str]) -> None:
        """Set the content of a Secret: its `data` in base64, as the API server has it."""
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
        """Remove the content of a deleted Secret."""
        if name == names.DIGEST_KEY_SECRET:
            self._secret = b""
        elif self._shards.pop(name, None):
            self._index()

    def secret(self) -> bytes:
        """The key of the installation; b"" before it is known."""
        return self._secret

    def authorizes(self, presented: str, key: EndpointKey) -> bool:
        """Whether an API key authorizes requests to an endpoint. The time of the comparison does not depend on the
        valid keys."""
        digest = self._digest(presented)
        matches = [
            hmac.compare_digest(digest, valid) for shard in self._shards.values() for valid in shard.get(key, ())
        ]
        return bool(self._secret) and any(matches)

    def endpoints_for(self, presented: str) -> frozenset[EndpointKey]:
        """The endpoints that an API key authorizes."""
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
    """Decode base64. Returns b"" for anything else, which the operator never writes."""
    try:
        return base64.b64decode(value)
    except binascii.Error:
        return b""
