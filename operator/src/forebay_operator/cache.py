"""What the watches have seen, as kopf's in-memory indices keep it: complete before the first reconcile."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from forebay_operator import names
from forebay_operator.resources.meta import find_controller
from forebay_operator.types import Manifest

Key = tuple[str, str]
"""Namespace and name of an endpoint."""

Index = Mapping[Key, Iterable[Manifest]]


@dataclass(frozen=True)
class Cache:
    """Live views: objects by the endpoint that they belong to."""

    endpoints: Index
    deployments: Index
    services: Index
    pods: Index

    def endpoint(self, key: Key) -> Manifest | None:
        """The endpoint itself."""
        return next(iter(self.endpoints.get(key, ())), None)

    def deployment(self, key: Key) -> Manifest | None:
        """The Deployment that has the endpoint's name."""
        return _pick(self.deployments, key)

    def service(self, key: Key) -> Manifest | None:
        """The Service that has the endpoint's name."""
        return _pick(self.services, key)

    def pods_of(self, key: Key) -> tuple[Manifest, ...]:
        """All pods that carry the endpoint's label."""
        return tuple(self.pods.get(key, ()))


def key_of(manifest: Manifest) -> Key | None:
    """The endpoint that an object belongs to: itself, the one that controls it, or the one that its label names."""
    metadata = manifest["metadata"]
    if manifest.get("kind") == names.KIND:
        return metadata["namespace"], metadata["name"]
    owner = find_controller(manifest)
    if owner and owner["kind"] == names.KIND:
        return metadata["namespace"], owner["name"]
    label = (metadata.get("labels") or {}).get(names.ENDPOINT_LABEL)
    return (metadata["namespace"], label) if label else None


def _pick(index: Index, key: Key) -> Manifest | None:
    return next((found for found in index.get(key, ()) if found["metadata"]["name"] == key[1]), None)
