"""The cache of the watched objects. The event source fills the cache; the reconciler and others read it.

The cache keeps only the fields that are read, as JSON, because dicts would need eight times the memory.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

from forebay_kube import names
from forebay_kube.endpoint_key import EndpointKey, key_of_endpoint
from forebay_operator import labels
from forebay_operator.resources.meta import find_controller
from forebay_operator.spec import Manifest

Index = Mapping[EndpointKey, Iterable[Manifest]]

_encode = json.JSONEncoder(separators=(",", ":")).encode
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_MANAGER = ("manager", "operation")
_CONDITION = ("type", "status", "reason", "message")
_UNREAD = {"env", "envFrom", "volumeMounts", "livenessProbe", "readinessProbe", "lifecycle", "securityContext"}
"""Fields of a pod's containers that are not kept."""


@dataclass(frozen=True)
class Cache:
    """Live views of the objects, by the endpoint that they belong to."""

    endpoints: Index
    deployments: Index
    services: Index
    pods: Index
    slices: Index = field(default_factory=dict)
    """The slices that lead to the gateways. Kubernetes' own slices are not watched."""

    def endpoint(self, key: EndpointKey) -> Manifest | None:
        """The endpoint itself."""
        return next(iter(self.endpoints.get(key, ())), None)

    def deployment(self, key: EndpointKey) -> Manifest | None:
        """The Deployment that has the endpoint's name."""
        return _pick(self.deployments, key)

    def service(self, key: EndpointKey) -> Manifest | None:
        """The Service that has the endpoint's name."""
        return _pick(self.services, key)

    def pods_of(self, key: EndpointKey) -> tuple[Manifest, ...]:
        """All pods that carry the endpoint's label."""
        return tuple(self.pods.get(key, ()))


def key_of(manifest: Manifest) -> EndpointKey | None:
    """The endpoint that an object belongs to: the object itself, its controller, or the endpoint that its label
    names."""
    metadata = manifest["metadata"]
    if manifest.get("kind") == names.KIND:
        return key_of_endpoint(manifest)
    owner = find_controller(manifest)
    if owner and owner["kind"] == names.KIND:
        return metadata["namespace"], owner["name"]
    label = (metadata.get("labels") or {}).get(labels.ENDPOINT_LABEL)
    return (metadata["namespace"], label) if label else None


@dataclass(frozen=True, slots=True)
class CachedObject:
    """An object in the cache.

    Attributes:
        name: its namespace and name.
        owner: the endpoint that it belongs to, if any.
        packed: the kept fields, as JSON; empty for an object without owner.
        news: a number that changes when a change matters to the endpoint (`pack`).
    """

    name: EndpointKey
    uid: str
    owner: EndpointKey | None
    packed: bytes
    news: int

    @classmethod
    def of(cls, manifest: Manifest) -> "CachedObject":
        """Build it from an object as the API server has it."""
        metadata, owner = manifest["metadata"], key_of(manifest)
        packed, news = pack(manifest) if owner else (b"", 0)
        return cls((metadata["namespace"], metadata["name"]), metadata["uid"], owner, packed, news)


class Store(Mapping[EndpointKey, Iterable[Manifest]]):
    """The objects of one kind, by the endpoint that they belong to. Each access unpacks them again."""

    def __init__(self) -> None:
        self._objects: dict[EndpointKey, CachedObject] = {}
        self._names: dict[EndpointKey, set[EndpointKey]] = {}

    def __getitem__(self, key: EndpointKey) -> list[Manifest]:
        return [json.loads(self._objects[name].packed) for name in self._names[key]]

    def __iter__(self) -> Iterator[EndpointKey]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def names(self) -> Set[EndpointKey]:
        """Namespace and name of every object in the store: a live view."""
        return self._objects.keys()

    def uids(self) -> dict[EndpointKey, str]:
        """The uid of every object, by namespace and name."""
        return {name: cached.uid for name, cached in self._objects.items()}

    def put(self, new: CachedObject) -> EndpointKey | None:
        """Store an object. Returns the endpoint that the object belongs to, or None if nothing has changed for this
        endpoint."""
        before = self._objects.get(new.name)
        if before and before.owner != new.owner:
            self.drop(new.name)
        self._objects[new.name] = new
        if new.owner:
            self._names.setdefault(new.owner, set()).add(new.name)
        return None if before and (before.uid, before.news) == (new.uid, new.news) else new.owner

    def drop(self, name: EndpointKey, uid: str | None = None) -> EndpointKey | None:
        """Remove an object, unless another object has its name now. Returns the endpoint that the removed object
        belonged to."""
        cached = self._objects.get(name)
        if cached is None or uid not in (None, cached.uid):
            return None
        del self._objects[name]
        if cached.owner:
            siblings = self._names[cached.owner]
            siblings.discard(name)
            if not siblings:
                del self._names[cached.owner]
        return cached.owner


def pack(manifest: Manifest) -> tuple[bytes, int]:
    """Pack an object. Returns the kept fields as JSON, and a number that changes when one of them changes.

    The operator's own writes to the status of an endpoint do not change the number. Writes of others do.
    """
    pruned = prune(manifest)
    packed = _dump(pruned)
    if manifest.get("kind") != names.KIND:
        return packed, hash(packed)
    metadata = {**pruned["metadata"], "resourceVersion": "", "managedFields": ()}
    managers = manifest["metadata"].get("managedFields") or ()
    others = [entry for entry in managers if entry.get("subresource") and entry["manager"] != labels.FIELD_MANAGER]
    return packed, hash(_dump([metadata, pruned.get("spec"), others]))


def _dump(content: object) -> bytes:
    return _encode(content).encode()


def prune(manifest: Manifest) -> Manifest:
    """The object without the fields that are never read."""
    metadata = dict(manifest["metadata"])
    managers = metadata.pop("managedFields", None) or ()
    metadata["annotations"] = {
        name: text for name, text in (metadata.get("annotations") or {}).items() if name != _LAST_APPLIED
    }
    if manifest.get("kind") == names.KIND:
        if appliers := [entry for entry in managers if entry["operation"] == "Apply" and not entry.get("subresource")]:
            metadata["managedFields"] = [{field: entry.get(field) for field in _MANAGER} for entry in appliers]
        return {**manifest, "metadata": metadata}
    metadata.pop("resourceVersion", None)
    if manifest.get("kind") == "Pod":
        return {**manifest, "metadata": metadata, "spec": _prune_pod_spec(manifest["spec"])}
    metadata["managedFields"] = [{field: entry.get(field) for field in _MANAGER} for entry in managers]
    status = manifest.get("status") or {}
    kept_status = {
        "observedGeneration": status.get("observedGeneration", 0),
        "conditions": status.get("conditions") or [],
    }
    conditions = [{field: condition.get(field) for field in _CONDITION} for condition in kept_status["conditions"]]
    if balancer := status.get("loadBalancer"):
        kept_status["loadBalancer"] = balancer
    return {**manifest, "metadata": metadata, "status": {**kept_status, "conditions": conditions}}


def _prune_pod_spec(spec: Manifest) -> Manifest:
    containers = [
        {name: value for name, value in container.items() if name not in _UNREAD} for container in spec["containers"]
    ]
    return {"nodeName": spec.get("nodeName", ""), "containers": containers}


def _pick(index: Index, key: EndpointKey) -> Manifest | None:
    return next((manifest for manifest in index.get(key, ()) if manifest["metadata"]["name"] == key[1]), None)
