"""Writes digests of the endpoints' API keys into Secrets of the operator's namespace, where the gateways read them.

Each of the sixteen Secrets has entries NAMESPACE.NAME for endpoints. An entry has one line for each key of the
endpoint: an HMAC-SHA-256 in hex, under a random key of the installation. So a gateway recognizes a valid key without a
right to read the keys.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import math
import secrets
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from forebay_kube import names
from forebay_kube.api_client import ApiServerError
from forebay_kube.endpoint_key import EndpointKey
from forebay_operator import labels
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.spec import Manifest
from forebay_protocol.api_key import MIN_KEY_LENGTH

logger = logging.getLogger(__name__)

DIGEST_SYNC_INTERVAL = 1.0
"""Seconds from one round of writes to the next. The changes of this time go into one write for each Secret."""

RETRY_INTERVAL = 5.0
"""Seconds until a failed read or write is retried."""

MAX_KEYS_PER_ENDPOINT = 64
"""The most keys of one endpoint that the gateways know. A Secret holds 1 MiB, which is 15,000 digests."""

KEY_READ_INTERVAL = 300.0
"""Seconds after which the Secrets are read again while nothing changes: they are not watched."""

SECRET_BYTES = 900_000
"""Bytes of the entries of one Secret, with their names. A Secret holds 1 MiB, with the fields that Kubernetes adds."""

NAMESPACE_SHARE = 0.5
"""The part that one namespace may use of a Secret's bytes that other namespaces do not use."""

_STALE = "made with another key"


@dataclass(frozen=True)
class WatchedEndpoints:
    """The endpoints that exist in the watched namespaces.

    Attributes:
        keys: returns the keys of all of them.
        namespaces: the watched namespaces; empty means all.
        request_reconcile: requests a reconcile of one of them.
    """

    keys: Callable[[], Collection[EndpointKey]]
    namespaces: Collection[str]
    request_reconcile: Callable[[EndpointKey], None]


class KeyDigestSync:
    """The digests of all endpoints, for one event loop. Nothing is known before `run` has read the Secrets."""

    def __init__(self, cluster: Cluster, namespace: str, endpoints: WatchedEndpoints) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._endpoints = endpoints
        self._key = b""
        self._ready = False
        self._wanted: dict[str, dict[str, str]] = {name: {} for name in names.DIGEST_SECRETS}
        self._written: dict[str, dict[str, str]] = {name: {} for name in names.DIGEST_SECRETS}
        """Lines by Secret and entry: the desired ones, and those that the Secrets have."""
        self._stale_entries: set[str] = set()
        """Entries that may be outdated: this operator led before, and lost the lease before it wrote them."""
        self._changed = asyncio.Event()

    def lacks(self, key: EndpointKey) -> bool:
        """Whether the keys of an endpoint must be read, because their digests are missing or outdated."""
        name, entry = _shard(key)
        return self._ready and (entry not in self._wanted[name] or entry in self._stale_entries)

    def put(self, key: EndpointKey, secret: Manifest | None) -> bool:
        """Set the keys of an endpoint from its Secret, or no keys without a Secret. Returns whether the keys have
        changed."""
        name, entry = _shard(key)
        lines = "\n".join(sorted(_digest(self._key, each) for each in _read_keys(key, secret)))
        if not self._has_room(name, entry, lines):
            logger.warning(
                "endpoint %s/%s: its namespace has too many keys, so the gateways do not know its keys", *key
            )
            lines = ""
        self._stale_entries.discard(entry)
        before = self._wanted[name].get(entry)
        if self._ready and before != lines:
            self._wanted[name][entry] = lines
            self._changed.set()
        return self._ready and before not in (None, lines)

    def _has_room(self, name: str, entry: str, lines: str) -> bool:
        """Whether the namespace stays within its share of a Secret with these lines."""
        own, others, namespace = len(entry) + len(lines), 0, entry.partition(".")[0]
        for each, text in self._wanted[name].items():
            if each.partition(".")[0] != namespace:
                others += len(each) + len(text)
            elif each != entry:
                own += len(each) + len(text)
        grows = len(lines) > len(self._wanted[name].get(entry, ""))
        return not grows or own <= NAMESPACE_SHARE * (SECRET_BYTES - others)

    def drop(self, key: EndpointKey) -> None:
        """Remove the digests of an endpoint that no longer exists."""
        name, entry = _shard(key)
        if self._wanted[name].pop(entry, None) is not None:
            self._changed.set()

    async def run(self) -> None:
        """Keep the digest Secrets in sync and correct outside changes, forever.

        It starts with the digests that the previous leader wrote.
        """
        read, self._ready = -math.inf, False
        while True:
            try:
                if not self._ready:
                    await self._adopt_written()
                    read = time.monotonic()
                elif time.monotonic() - read > KEY_READ_INTERVAL:
                    await self._read()
                    read = time.monotonic()
            except ApiServerError as error:
                logger.warning("digests of keys: %s", error)
                await asyncio.sleep(RETRY_INTERVAL)
                continue
            self._changed.clear()
            failed = [name for name in names.DIGEST_SECRETS if not await self._write(name)]
            await asyncio.sleep(RETRY_INTERVAL if failed else DIGEST_SYNC_INTERVAL)
            if not failed:
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, read + KEY_READ_INTERVAL - time.monotonic())):
                        await self._changed.wait()

    async def _adopt_written(self) -> None:
        for name in names.DIGEST_SECRETS:  # this operator may have led before and not written them
            self._stale_entries.update(self._find_changes(name))
        await self._read()
        existing, namespaces = self._endpoints.keys(), self._endpoints.namespaces
        for name, entries in self._written.items():
            wanted = self._wanted[name] = {}
            for entry, lines in entries.items():
                namespace, _, endpoint = entry.partition(".")
                others = namespaces and namespace not in namespaces
                if lines != _STALE and (others or (namespace, endpoint) in existing):
                    wanted[entry] = lines
        self._ready = True
        self._request_missing()

    async def _read(self) -> None:
        """Read the digest Secrets, and create the installation's key if it is missing.

        Raises:
            ApiServerError: the API server refused or did not answer.
        """
        before, self._key = self._key, await self._ensure_key()
        for name in names.DIGEST_SECRETS:
            live: Manifest = await self._cluster.get("Secret", self._namespace, name) or {"metadata": {}}
            made_with = (live["metadata"].get("annotations") or {}).get(labels.DIGEST_KEY_ANNOTATION)
            self._written[name] = {
                entry: lines.decode(errors="replace") if made_with == _name_key(self._key) else _STALE
                for entry, lines in _decode(live.get("data") or {}).items()
            }
        if before not in (b"", self._key):
            logger.warning(
                "computing the digests of all keys again: the Secret %s was replaced", names.DIGEST_KEY_SECRET
            )
            for entries in self._wanted.values():
                entries.clear()
            self._request_missing()

    async def _ensure_key(self) -> bytes:
        """The key under which the installation's API keys are digested."""
        name, new_key = names.DIGEST_KEY_SECRET, {names.DIGEST_KEY_ENTRY: secrets.token_bytes(32)}
        manifest = _secret(self._namespace, name, new_key)
        secret = await self._cluster.get("Secret", self._namespace, name)
        if secret is None:
            created = await self._cluster.create(manifest)
            secret = created or await self._cluster.get("Secret", self._namespace, name)
        key = _decode((secret or {}).get("data") or {}).get(names.DIGEST_KEY_ENTRY, b"")
        if len(key) < MIN_KEY_LENGTH:
            await self._cluster.merge(manifest, {"data": manifest["data"]})
            return new_key[names.DIGEST_KEY_ENTRY]
        return key

    def _request_missing(self) -> None:
        for key in list(self._endpoints.keys()):
            if self.lacks(key):
                self._endpoints.request_reconcile(key)

    def _find_changes(self, name: str) -> dict[str, str | None]:
        """The entries of one Secret that must be written, with None for those that must be deleted."""
        wanted, written = self._wanted[name], self._written[name]
        due: dict[str, str | None] = {entry: lines for entry, lines in wanted.items() if written.get(entry) != lines}
        due.update(dict.fromkeys(written.keys() - wanted.keys()))
        return due

    async def _write(self, name: str) -> bool:
        """Write the changed entries of one Secret. Returns whether the Secret is in sync."""
        wanted, due = dict(self._wanted[name]), self._find_changes(name)
        if not due:
            return True
        manifest = _secret(self._namespace, name, {})
        annotations = {labels.DIGEST_KEY_ANNOTATION: _name_key(self._key)}
        data = {entry: None if lines is None else _encode(lines.encode()) for entry, lines in due.items()}
        try:
            await self._cluster.merge(manifest, {"metadata": {"annotations": annotations}, "data": data})
        except ApiServerError as error:
            if error.status != 404:
                logger.warning("digests in %s: %s", name, error)
                return False
            return await self._create(name, wanted, annotations)
        self._written[name] = wanted
        return True

    async def _create(self, name: str, wanted: dict[str, str], annotations: dict[str, str]) -> bool:
        whole = _secret(self._namespace, name, {entry: lines.encode() for entry, lines in wanted.items()})
        try:
            created = await self._cluster.create(
                {**whole, "metadata": {**whole["metadata"], "annotations": annotations}}
            )
        except ApiServerError as error:
            logger.warning("digests in %s: %s", name, error)
            return False
        if created:
            self._written[name] = wanted
        return created is not None


def _digest(key: bytes, api_key: bytes) -> str:
    return hmac.new(key, api_key, hashlib.sha256).hexdigest()


def _name_key(key: bytes) -> str:
    """A name for an installation's key. It identifies the key and reveals nothing of it."""
    return _digest(key, b"name")[:16]


def _shard(key: EndpointKey) -> tuple[str, str]:
    """The Secret that holds an endpoint's digests, and the entry in it. Namespaces and names have no dots."""
    entry = ".".join(key)
    digit = hashlib.sha256(entry.encode()).hexdigest()[0]
    return f"{names.DIGEST_SECRETS[0][:-1]}{digit}", entry


def _read_keys(key: EndpointKey, secret: Manifest | None) -> Collection[bytes]:
    """The valid keys in a Secret. Each value is one key, without surrounding white space, as the servers read it.

    Only the first MAX_KEYS_PER_ENDPOINT keys are used, in the order of their names, because all endpoints share the
    digest Secrets.
    """
    values = [value.strip() for _, value in sorted(_decode((secret or {}).get("data") or {}).items())]
    keys = list(dict.fromkeys(each for each in values if len(each.decode(errors="replace")) >= MIN_KEY_LENGTH))
    if len(keys) > MAX_KEYS_PER_ENDPOINT:
        logger.warning("endpoint %s/%s: the gateways know %d of its %d keys", *key, MAX_KEYS_PER_ENDPOINT, len(keys))
    return keys[:MAX_KEYS_PER_ENDPOINT]


def _secret(namespace: str, name: str, data: dict[str, bytes]) -> dict[str, Any]:
    encoded = {entry: _encode(value) for entry, value in data.items()}
    metadata = {"name": name, "namespace": namespace, "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY}}
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": encoded}


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _decode(data: Manifest) -> dict[str, bytes]:
    return {entry: base64.b64decode(value) for entry, value in data.items()}
