"""Which nodes have the GPUs that an endpoint needs, where the operator may list nodes.

Nodes are told apart by the labels that their GPUs' vendors set.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from forebay_kube.object_conditions import is_true
from forebay_operator.spec import PRODUCT_LABELS, Gpu, Manifest
from forebay_operator.status.diagnosis import reasons
from forebay_operator.status.diagnosis.reasons import Diagnosis

MEMORY_LABELS = ("nvidia.com/gpu.memory", "amd.com/gpu.vram")
"""Of one GPU: NVIDIA's in MiB (k8s-device-plugin, docs/gpu-feature-discovery), AMD's in GiB with the unit G (192G; its
k8s-device-plugin, cmd/k8s-node-labeller/main.go). Intel's plugin has set none since it gave up fractional resources."""

MAX_KINDS = 8
"""Kinds of nodes that a message names."""

DOES_NOT_FIT = frozenset({"OutOfMemoryWeights", "OutOfMemoryKVCache", "MaxModelLenTooLarge", "OutOfMemoryWarmUp"})
"""Reasons of the server for which a larger GPU would do."""

NEEDED = re.compile(r"GPUs of at least (?P<gib>\d+) GiB")
"""How the server says what would hold the model: forebay_server.lifecycle.memory_fit, held together by a test."""

_GPU = re.compile(r"gpu|/mig-|gaudi|/npu|/tpu|neuron")
"""In the names of extended resources that are accelerators."""

_SHARE = re.compile(r"/mig-\d+g\.(?P<gib>\d+)gb")

_UNITS = {"": 1 / 1024, "M": 1 / 1024, "MI": 1 / 1024, "G": 1.0, "GI": 1.0, "T": 1024.0, "TI": 1024.0}


@dataclass(frozen=True)
class Node:
    """What the operator keeps of a node.

    Attributes:
        gpus: extended resource -> how many the node has in all, taken or not.
        product: of its GPUs, "" when no label says.
        gpu_gib: memory of one whole GPU, 0.0 when no label says.
        usable: ready and not cordoned.
    """

    name: str
    gpus: tuple[tuple[str, int], ...]
    product: str = ""
    gpu_gib: float = 0.0
    usable: bool = True

    def memory_of(self, resource: str) -> float:
        """GiB of one unit of the resource: of a share what its name says, as NVIDIA names MIG profiles."""
        share = _SHARE.search(resource)
        return float(share["gib"]) if share else self.gpu_gib


def parse_node(manifest: Manifest) -> Node:
    """A node as the API server lists it."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    labels = metadata.get("labels") or {}
    gpus = {
        resource: int(amount)
        for resource, amount in (status.get("allocatable") or {}).items()
        if "/" in resource and re.fullmatch(r"0*[1-9][0-9]{0,8}", str(amount))
    }
    product = next((str(labels[label]) for label in PRODUCT_LABELS.values() if label in labels), "")
    memory = next((_parse_gib(str(labels[label])) for label in MEMORY_LABELS if label in labels), 0.0)
    usable = is_true(status, "Ready") and not (manifest.get("spec") or {}).get("unschedulable")
    return Node(metadata["name"], tuple(sorted(gpus.items())), product, memory, usable)


def wants_nodes(diagnosis: Diagnosis | None, gpu: Gpu) -> bool:
    """Whether the nodes could add something to what was found."""
    if diagnosis is None or not gpu.count:
        return False
    return diagnosis.reason in DOES_NOT_FIT or diagnosis.reason == reasons.UNSCHEDULABLE.name


def add_nodes(diagnosis: Diagnosis, gpu: Gpu, nodes: Sequence[Node], node_name: str = "") -> Diagnosis:
    """The diagnosis with what the nodes have. `node_name`: where the pod ran, if it did."""
    if diagnosis.reason in DOES_NOT_FIT:
        return _name_larger(diagnosis, gpu, nodes, node_name)
    if f"Insufficient {gpu.resource}" not in diagnosis.message and "node affinity" not in diagnosis.message:
        return diagnosis
    having = [node for node in nodes if dict(node.gpus).get(gpu.resource, 0) >= gpu.count]
    wanted = gpu.product
    matching = [node for node in having if not wanted or node.product == wanted]
    asked = f"{gpu.count} {gpu.resource}" + (f" of product {wanted}" if wanted else "")
    if not matching:
        found = f"no node has {asked}; the nodes have {summarize(nodes, gpu.resource)}"
        return reasons.NO_SUCH_GPU.diagnose(f"{found}. The scheduler says: {diagnosis.message}")
    if f"Insufficient {gpu.resource}" in diagnosis.message:
        found = f"nodes that have {asked} are full ({summarize(matching, gpu.resource)})"
        return reasons.GPUS_TAKEN.diagnose(f"{found}. The scheduler says: {diagnosis.message}")
    return diagnosis


def summarize(nodes: Iterable[Node], asked: str) -> str:
    """What GPUs there are, in a few words that stay the same while the nodes do. `asked`: the resource asked for."""
    kinds: Counter[str] = Counter()
    for node in nodes:
        for resource, count in node.gpus:
            if resource != asked and not _GPU.search(resource):
                continue
            gib = node.memory_of(resource)
            memory = f", {gib:.0f} GiB each" if gib else ""
            product = f" ({node.product}{memory})" if node.product else ""
            kinds[f"{count} {resource}{product}"] += 1
    words = [f"{kind} on {count} node{'s' if count > 1 else ''}" for kind, count in sorted(kinds.items())]
    rest = [f"{len(words) - MAX_KINDS} more kinds"] if len(words) > MAX_KINDS else []
    return ", ".join(words[:MAX_KINDS] + rest) or "no GPUs at all"


def _name_larger(diagnosis: Diagnosis, gpu: Gpu, nodes: Sequence[Node], node_name: str) -> Diagnosis:
    """Add the GPUs that could hold the model: as large as the server said, else larger than where it was tried."""
    said = NEEDED.search(diagnosis.remedy)
    tried = next((node.memory_of(gpu.resource) for node in nodes if node.name == node_name), 0.0)
    if not said and not tried:
        return diagnosis
    # a GPU of 80 GiB on paper has less: labels and the server's estimate both tell what it really has
    enough = [
        node
        for node in nodes
        if node.usable
        and dict(node.gpus).get(gpu.resource, 0) >= gpu.count
        and (node.memory_of(gpu.resource) >= int(said["gib"]) if said else node.memory_of(gpu.resource) > tried * 1.05)
    ]
    size = f"GPUs of {said['gib']} GiB or more" if said else f"GPUs of more than {tried:.0f} GiB"
    if enough:
        where = summarize(enough, gpu.resource)
        advice = f"Nodes of this cluster that have {size}: {where}; select them with spec.gpu.product"
    else:
        advice = f"No node of this cluster has enough {size}"
    return replace(diagnosis, remedy=f"{diagnosis.remedy.rstrip('. ')}. {advice}")


def _parse_gib(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,12})\s*([A-Za-z]{0,2})", text.upper().removesuffix("B"))
    return round(int(found[1]) * _UNITS.get(found[2], 0.0), 1) if found else 0.0
