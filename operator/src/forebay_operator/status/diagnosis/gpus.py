"""Finds nodes with the GPUs that an endpoint needs, if the operator may list nodes.

The labels of the GPU vendors describe the GPUs of a node. readiness.py calls it.
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
"""Labels with the memory of one GPU. NVIDIA's is in MiB (k8s-device-plugin, docs/gpu-feature-discovery). AMD's is in
GiB with the unit G (192G; its k8s-device-plugin, cmd/k8s-node-labeller/main.go). Intel's plugin sets none since it
dropped fractional resources."""

MAX_KINDS = 8
"""Kinds of nodes that a message names."""

DOES_NOT_FIT = frozenset({"OutOfMemoryWeights", "OutOfMemoryKVCache", "MaxModelLenTooLarge", "OutOfMemoryWarmUp"})
"""Reasons of the server that a larger GPU would remove."""

NEEDED = re.compile(r"GPUs of at least (?P<gib>\d+) GiB")
"""The server's text for GPUs that would hold the model (forebay_server.lifecycle.memory_fit). A test compares the
two."""

_GPU = re.compile(r"gpu|/mig-|gaudi|/npu|/tpu|neuron")
"""A pattern in the names of extended resources that are accelerators."""

_SHARE = re.compile(r"/mig-\d+g\.(?P<gib>\d+)gb")

_UNITS = {"": 1 / 1024, "M": 1 / 1024, "MI": 1 / 1024, "G": 1.0, "GI": 1.0, "T": 1024.0, "TI": 1024.0}


@dataclass(frozen=True)
class Node:
    """The facts about a node that the operator keeps.

    Attributes:
        gpus: extended resource -> how many the node has in all, used or free.
        product: the product of its GPUs; "" without a label.
        gpu_gib: the memory of one whole GPU; 0.0 without a label.
        usable: whether it is ready and not cordoned.
    """

    name: str
    gpus: tuple[tuple[str, int], ...]
    product: str = ""
    gpu_gib: float = 0.0
    usable: bool = True

    def memory_of(self, resource: str) -> float:
        """The GiB of memory of one unit of the resource. The name of a share of a GPU contains the GiB, as in NVIDIA's
        MIG."""
        share = _SHARE.search(resource)
        return float(share["gib"]) if share else self.gpu_gib


def parse_node(manifest: Manifest) -> Node:
    """Parse a node as the API server lists it."""
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


def needs_nodes(diagnosis: Diagnosis | None, gpu: Gpu) -> bool:
    """Whether the nodes could add something to the diagnosis."""
    if diagnosis is None or not gpu.count:
        return False
    return diagnosis.reason in DOES_NOT_FIT or diagnosis.reason == reasons.UNSCHEDULABLE.name


def add_nodes(diagnosis: Diagnosis, gpu: Gpu, nodes: Sequence[Node], node_name: str = "") -> Diagnosis:
    """Add the nodes' GPUs to the diagnosis. `node_name`: the node where the pod ran, if it did."""
    if diagnosis.reason in DOES_NOT_FIT:
        return _name_larger(diagnosis, gpu, nodes, node_name)
    if f"Insufficient {gpu.resource}" not in diagnosis.message and "node affinity" not in diagnosis.message:
        return diagnosis
    having = [node for node in nodes if dict(node.gpus).get(gpu.resource, 0) >= gpu.count]
    wanted = gpu.product
    matching = [node for node in having if not wanted or node.product == wanted]
    request = f"{gpu.count} {gpu.resource}" + (f" of product {wanted}" if wanted else "")
    if not matching:
        message = f"no node has {request}; the nodes have {summarize(nodes, gpu.resource)}"
        return reasons.NO_SUCH_GPU.diagnose(f"{message}. The scheduler says: {diagnosis.message}")
    if f"Insufficient {gpu.resource}" in diagnosis.message:
        message = f"nodes that have {request} are full ({summarize(matching, gpu.resource)})"
        return reasons.GPUS_TAKEN.diagnose(f"{message}. The scheduler says: {diagnosis.message}")
    return diagnosis


def summarize(nodes: Iterable[Node], requested: str) -> str:
    """Summarize the nodes' GPUs in a text that changes only with the nodes. `requested`: the requested resource."""
    kinds: Counter[str] = Counter()
    for node in nodes:
        for resource, count in node.gpus:
            if resource != requested and not _GPU.search(resource):
                continue
            gib = node.memory_of(resource)
            memory = f", {gib:.0f} GiB each" if gib else ""
            product = f" ({node.product}{memory})" if node.product else ""
            kinds[f"{count} {resource}{product}"] += 1
    parts = [f"{kind} on {count} node{'s' if count > 1 else ''}" for kind, count in sorted(kinds.items())]
    rest = [f"{len(parts) - MAX_KINDS} more kinds"] if len(parts) > MAX_KINDS else []
    return ", ".join(parts[:MAX_KINDS] + rest) or "no GPUs at all"


def _name_larger(diagnosis: Diagnosis, gpu: Gpu, nodes: Sequence[Node], node_name: str) -> Diagnosis:
    """Name the GPUs that could hold the model: GPUs of the size that the server reported, or else GPUs larger than
    those that were tried."""
    needed = NEEDED.search(diagnosis.remedy)
    tried = next((node.memory_of(gpu.resource) for node in nodes if node.name == node_name), 0.0)
    if not needed and not tried:
        return diagnosis
    # a GPU sold as 80 GiB has less; labels and the server's estimate both use the real size
    fitting = [
        node
        for node in nodes
        if node.usable
        and dict(node.gpus).get(gpu.resource, 0) >= gpu.count
        and (
            node.memory_of(gpu.resource) >= int(needed["gib"])
            if needed
            else node.memory_of(gpu.resource) > tried * 1.05
        )
    ]
    size = f"GPUs of {needed['gib']} GiB or more" if needed else f"GPUs of more than {tried:.0f} GiB"
    if fitting:
        summary = summarize(fitting, gpu.resource)
        advice = f"Nodes of this cluster that have {size}: {summary}; select them with spec.gpu.product"
    else:
        advice = f"No node of this cluster has enough {size}"
    return replace(diagnosis, remedy=f"{diagnosis.remedy.rstrip('. ')}. {advice}")


def _parse_gib(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,12})\s*([A-Za-z]{0,2})", text.upper().removesuffix("B"))
    return round(int(match[1]) * _UNITS.get(match[2], 0.0), 1) if match else 0.0
