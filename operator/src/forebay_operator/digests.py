"""Keeps digests of the endpoints' API keys where the gateways read them, in Secrets of the operator's namespace.

Each of the sixteen has, under NAMESPACE.NAME of an endpoint, one line for each of its keys: HMAC-SHA-256 in hex, under
a random key of the installation. So a gateway can tell a valid key without ever having seen one, and it needs no right
on the keys.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Any

from forebay_operator import names
from forebay_operator.api import ApiError
from forebay_operator.cache import Key
from forebay_operator.cluster import Cluster
from forebay_operator.types import Manifest

logger = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds from one round of writes to the next: what changes meanwhile goes into one write for each Secret."""

LOOK_INTERVAL = 300.0
"""Seconds after which the Secrets are read again while nothing changes: they are not watched."""

_STALE = "made with another key"

MINIMUM_LENGTH = 16
"""Characters of an API key; the servers take no shorter one either."""


class Digests:
    """The digests of all endpoints. For one event loop; nothing is known before `read`. `renewed` is called when the
    installation has another key, so that the keys of all endpoints are needed again."""

    def __init__(self, cluster: Cluster, namespace: str, renewed: Callable[[], None] = lambda: None) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._renewed = renewed
        self._key = b""
        self._wanted: dict[str, dict[str, str]] = {name: {} for name in names.DIGEST_SECRETS}
        self._written: dict[str, dict[str, str]] = {name: {} for name in names.DIGEST_SECRETS}
        """Lines by Secret and entry, as they are to be and as they are."""
        self._news = asyncio.Event()

    def knows(self, key: Key) -> bool:
        """Whether the digests of an endpoint are kept, or about to be."""
        name, entry = _place(key)
        return entry in self._wanted[name]

    def put(self, key: Key, secret: Manifest | None) -> None:
        """These are the keys of an endpoint, as its Secret has them; None for one that has no key."""
        name, entry = _place(key)
        keys = _read_keys(secret) if secret else ()
        self._wanted[name][entry] = "\n".join(sorted(_digest(self._key, each) for each in keys))
        self._news.set()

    def drop(self, key: Key) -> None:
        """The endpoint is gone."""
        name, entry = _place(key)
        if self._wanted[name].pop(entry, None) is not None:
            self._news.set()

    async def prepare(self, living: Collection[Key], namespaces: Collection[str]) -> None:
        """Take over what is written, by whichever operator led before. Of the endpoints in `namespaces`, or everywhere
        for none, only those that live keep their digests.

        Raises:
            ApiError: the API server refused or did not answer.
        """
        await self.read()
        for wanted in self._wanted.values():
            wanted.clear()  # what this one wanted when it led before may be older
        for name, entries in self._written.items():
            for entry, lines in entries.items():
                namespace, _, endpoint = entry.partition(".")
                lives = (namespace, endpoint) in living or (namespaces and namespace not in namespaces)
                if lives and lines != _STALE:
                    self._wanted[name].setdefault(entry, lines)
        self._news.set()

    async def read(self) -> None:
        """Read what is written, and make the installation's key where there is none.

        Raises:
            ApiError: the API server refused or did not answer.
        """
        found = await self._cluster.get("Secret", self._namespace, names.DIGEST_KEY_SECRET)
        if found is None:
            made = _secret(self._namespace, names.DIGEST_KEY_SECRET, {names.DIGEST_KEY_ENTRY: secrets.token_bytes(32)})
            created = await self._cluster.create(made)
            found = created or await self._cluster.get("Secret", self._namespace, names.DIGEST_KEY_SECRET)
        key = _decode((found or {}).get("data") or {}).get(names.DIGEST_KEY_ENTRY, b"")
        if len(key) < MINIMUM_LENGTH:
            raise ApiError(0, "NoDigestKey", f"the Secret {names.DIGEST_KEY_SECRET} has no {names.DIGEST_KEY_ENTRY}")
        for name in names.DIGEST_SECRETS:
            live: Manifest = await self._cluster.get("Secret", self._namespace, name) or {"metadata": {}}
            made_with = (live["metadata"].get("annotations") or {}).get(names.DIGEST_KEY_ANNOTATION)
            data = _decode(live.get("data") or {})
            self._written[name] = {
                entry: lines.decode(errors="replace") if made_with == _name_key(key) else _STALE
                for entry, lines in data.items()
            }
        before, self._key = self._key, key
        if before not in (b"", key):
            logger.warning("the digests of all keys are made anew: the Secret %s is another", names.DIGEST_KEY_SECRET)
            for entries in self._wanted.values():
                entries.clear()
            self._renewed()

    async def run(self) -> None:
        """Write what is due, for ever; and see from time to time that it is still there."""
        while True:
            try:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), LOOK_INTERVAL)
                if not self._news.is_set():
                    await self.read()
                self._news.clear()
                for name in names.DIGEST_SECRETS:
                    await self._write(name)
            except ApiError as error:
                logger.warning("digests of keys: %s", error)
                self._news.set()
            await asyncio.sleep(INTERVAL)

    async def _write(self, name: str) -> None:
        """Bring one Secret from what is written to what is wanted."""
        wanted, written = dict(self._wanted[name]), self._written[name]
        due: dict[str, str | None] = {entry: lines for entry, lines in wanted.items() if written.get(entry) != lines}
        due.update(dict.fromkeys(written.keys() - wanted.keys()))
        if not due:
            return
        manifest = _secret(self._namespace, name, {})
        annotations = {names.DIGEST_KEY_ANNOTATION: _name_key(self._key)}
        data = {entry: None if lines is None else _encode(lines.encode()) for entry, lines in due.items()}
        try:
            await self._cluster.merge(manifest, {"metadata": {"annotations": annotations}, "data": data})
        except ApiError as error:
            if error.status != 404:
                raise
            whole = _secret(self._namespace, name, {entry: lines.encode() for entry, lines in wanted.items()})
            if (
                await self._cluster.create({**whole, "metadata": {**whole["metadata"], "annotations": annotations}})
                is None
            ):
                raise  # somebody else has made it meanwhile
        self._written[name] = wanted


def _digest(key: bytes, api_key: bytes) -> str:
    return hmac.new(key, api_key, hashlib.sha256).hexdigest()


def _name_key(key: bytes) -> str:
    """What tells one key of an installation from another, and nothing more of it."""
    return _digest(key, b"name")[:16]


def _place(key: Key) -> tuple[str, str]:
    """The Secret in which an endpoint's digests are, and the entry there. Neither part of a key has a dot in it."""
    entry = ".".join(key)
    digit = hashlib.sha256(entry.encode()).hexdigest()[0]
    return f"{names.DIGEST_SECRETS[0][:-1]}{digit}", entry


def _read_keys(secret: Manifest) -> Iterable[bytes]:
    """The valid keys in a Secret: a key is one value, without the white space around it, as the servers read it."""
    found = (value.strip() for value in _decode(secret.get("data") or {}).values())
    return {value for value in found if len(value.decode(errors="replace")) >= MINIMUM_LENGTH}


def _secret(namespace: str, name: str, data: dict[str, bytes]) -> dict[str, Any]:
    labels = {names.MANAGED_BY_LABEL: names.MANAGED_BY}
    encoded = {entry: _encode(value) for entry, value in data.items()}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": encoded}


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _decode(data: Manifest) -> dict[str, bytes]:
    return {entry: base64.b64decode(value) for entry, value in data.items()}
