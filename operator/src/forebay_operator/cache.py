"""What the watches have seen, as kopf's in-memory indices keep it: complete before the first reconcile."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from forebay_operator import names
from forebay_operator.resources.meta import find_controller
from forebay_operator.types import Manifest

Key = tuple[str, str]
"""Namespace and name of an endpoint."""

Index = Mapping[Key, Iterable[Manifest]]


@dataclass(frozen=True)
class Cache:
    """Live views: objects by the endpoint that they belong to.

    `gone` has the uids of objects that the indices still hold although they were deleted: a watch that has to begin
    anew, as what it missed is forgotten (410), is told of all that there is, and never of what there was.
    """

    endpoints: Index
    deployments: Index
    services: Index
    pods: Index
    gone: set[str] = field(default_factory=set)

    def endpoint(self, key: Key) -> Manifest | None:
        """The endpoint itself."""
        return next(self._find(self.endpoints, key), None)

    def deployment(self, key: Key) -> Manifest | None:
        """The Deployment that has the endpoint's name."""
        return self._pick(self.deployments, key)

    def service(self, key: Key) -> Manifest | None:
        """The Service that has the endpoint's name."""
        return self._pick(self.services, key)

    def pods_of(self, key: Key) -> tuple[Manifest, ...]:
        """All pods that carry the endpoint's label."""
        return tuple(self._find(self.pods, key))

    def uids(self, kind: str) -> dict[str, Key]:
        """The uid of every object of a kind that is in the indices, with the endpoint that it belongs to."""
        index = {
            names.KIND: self.endpoints, "Deployment": self.deployments, "Service": self.services, "Pod": self.pods
        }[kind]  # fmt: skip
        return {found["metadata"]["uid"]: key for key in list(index) for found in index[key]}

    def _find(self, index: Index, key: Key) -> Iterator[Manifest]:
        return (found for found in index.get(key, ()) if found["metadata"].get("uid") not in self.gone)

    def _pick(self, index: Index, key: Key) -> Manifest | None:
        return next((found for found in self._find(index, key) if found["metadata"]["name"] == key[1]), None)


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
