"""What the watches have seen. Of each object only what somebody reads is kept, as JSON: dicts would need eight times
the memory."""

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
"""Fields of a pod's containers."""


@dataclass(frozen=True)
class Cache:
    """Live views: objects by the endpoint that they belong to."""

    endpoints: Index
    deployments: Index
    services: Index
    pods: Index
    slices: Index = field(default_factory=dict)
    """Those that lead to the gateways; Kubernetes' own are not watched."""

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
    """The endpoint that an object belongs to: itself, the one that controls it, or the one that its label names."""
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
    """What is kept of an object.

    Attributes:
        name: its namespace and name.
        owner: the endpoint that it belongs to, if any.
        packed: as JSON, what somebody reads of it; of one without owner nothing.
        news: a number that changes with what is new.
    """

    name: EndpointKey
    uid: str
    owner: EndpointKey | None
    packed: bytes
    news: int

    @classmethod
    def of(cls, manifest: Manifest) -> "CachedObject":
        """Of an object as the API server has it."""
        metadata, owner = manifest["metadata"], key_of(manifest)
        packed, news = pack(manifest) if owner else (b"", 0)
        return cls((metadata["namespace"], metadata["name"]), metadata["uid"], owner, packed, news)


class Store(Mapping[EndpointKey, Iterable[Manifest]]):
    """The objects of one kind, by the endpoint that they belong to; unpacked anew whenever they are looked at."""

    def __init__(self) -> None:
        self._kept: dict[EndpointKey, CachedObject] = {}
        self._names: dict[EndpointKey, set[EndpointKey]] = {}

    def __getitem__(self, key: EndpointKey) -> list[Manifest]:
        return [json.loads(self._kept[name].packed) for name in self._names[key]]

    def __iter__(self) -> Iterator[EndpointKey]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def names(self) -> Set[EndpointKey]:
        """Namespace and name of every object that was seen; it changes with the store."""
        return self._kept.keys()

    def uids(self) -> dict[EndpointKey, str]:
        """The uid of every object, by namespace and name."""
        return {name: kept.uid for name, kept in self._kept.items()}

    def put(self, new: CachedObject) -> EndpointKey | None:
        """Keep an object as it is now. Returns the endpoint that it belongs to when there is anything new for that."""
        before = self._kept.get(new.name)
        if before and before.owner != new.owner:
            self.drop(new.name)
        self._kept[new.name] = new
        if new.owner:
            self._names.setdefault(new.owner, set()).add(new.name)
        return None if before and (before.uid, before.news) == (new.uid, new.news) else new.owner

    def drop(self, name: EndpointKey, uid: str | None = None) -> EndpointKey | None:
        """Forget an object, unless by now there is another of its name. Returns the endpoint that it belonged to."""
        kept = self._kept.get(name)
        if kept is None or uid not in (None, kept.uid):
            return None
        del self._kept[name]
        if kept.owner:
            names_left = self._names[kept.owner]
            names_left.discard(name)
            if not names_left:
                del self._names[kept.owner]
        return kept.owner


def pack(manifest: Manifest) -> tuple[bytes, int]:
    """What is kept of an object, and a number that changes when there is something new in it.

    The status of an endpoint is ours, so it is nothing new unless somebody else has written to it.
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
    """An object without what nobody reads."""
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
    kept = {"observedGeneration": status.get("observedGeneration", 0), "conditions": status.get("conditions") or []}
    conditions = [{field: condition.get(field) for field in _CONDITION} for condition in kept["conditions"]]
    return {**manifest, "metadata": metadata, "status": {**kept, "conditions": conditions}}


def _prune_pod_spec(spec: Manifest) -> Manifest:
    containers = [
        {name: value for name, value in container.items() if name not in _UNREAD} for container in spec["containers"]
    ]
    return {"nodeName": spec.get("nodeName", ""), "containers": containers}


def _pick(index: Index, key: EndpointKey) -> Manifest | None:
    return next((manifest for manifest in index.get(key, ()) if manifest["metadata"]["name"] == key[1]), None)
