"""GPUs of the nodes in messages that need them. The nodes' labels are those of GPU feature discovery."""

from dataclasses import replace

import pytest

from forebay_operator.spec import Gpu
from forebay_operator.status.diagnosis import Diagnosis
from forebay_operator.status.diagnosis.gpus import Node, add_nodes, needs_nodes, parse_node, summarize
from forebay_server.lifecycle.memory_fit import MemoryNeed, assess_fit
from tests.kubectl import Manifest

NVIDIA = "nvidia.com/gpu"
SCHEDULER = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def gpu(count: int = 1, product: str = "") -> Gpu:
    return Gpu(count=count, resource=NVIDIA, product=product)


def node(name: str, count: int, product: str, mib: int, **spec: object) -> Manifest:
    labels = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.memory": str(mib), "nvidia.com/gpu.count": str(count)}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": "16", "memory": "64Gi", NVIDIA: str(count), "vendor.example/nic": "1"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


NODES = [
    parse_node(node("a", 1, "NVIDIA-L4", 23034)),
    parse_node(node("b", 1, "NVIDIA-L4", 23034)),
    parse_node(node("c", 8, "NVIDIA-H100-80GB-HBM3", 81559)),
    parse_node({"metadata": {"name": "d"}, "status": {"allocatable": {"cpu": "4"}}}),
]
UNSCHEDULABLE = Diagnosis("Unschedulable", SCHEDULER, "Free or add such a node")


def test_a_node_is_read_by_its_labels() -> None:
    assert NODES[2] == Node("c", ((NVIDIA, 8), ("vendor.example/nic", 1)), "NVIDIA-H100-80GB-HBM3", 79.6, True)
    assert NODES[3] == Node("d", (), "", 0.0, False)
    assert not parse_node(node("e", 1, "NVIDIA-L4", 23034, unschedulable=True)).usable
    amd_labels = {"amd.com/gpu.vram": "192G", "amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}
    amd = parse_node({"metadata": {"name": "f", "labels": amd_labels}})
    assert (amd.product, amd.gpu_gib) == ("AMD_Instinct_MI300X_OAM", 192.0)
    intel = parse_node({"metadata": {"name": "g", "labels": {"gpu.intel.com/product": "Max_1550"}}})
    assert (intel.product, intel.gpu_gib) == ("Max_1550", 0.0)


def test_the_gpus_of_nodes_are_listed_by_kind() -> None:
    assert summarize(NODES, NVIDIA) == (
        "1 nvidia.com/gpu (NVIDIA-L4, 22 GiB each) on 2 nodes, "
        "8 nvidia.com/gpu (NVIDIA-H100-80GB-HBM3, 80 GiB each) on 1 node"
    )
    assert summarize([], NVIDIA) == "no GPUs at all"


@pytest.mark.parametrize(
    ("asked", "reason", "words"),
    [
        (gpu(16), "NoSuchGPU", "no node has 16 nvidia.com/gpu; the nodes have 1 nvidia.com/gpu (NVIDIA-L4"),
        (gpu(8, "NVIDIA-L4"), "NoSuchGPU", "no node has 8 nvidia.com/gpu of product NVIDIA-L4"),
        (gpu(4), "GPUsTaken", "nodes that have 4 nvidia.com/gpu are full (8 nvidia.com/gpu (NVIDIA-H100"),
    ],
)
def test_an_unschedulable_gpu_pod_gets_the_gpus_of_the_cluster(asked: Gpu, reason: str, words: str) -> None:
    found = add_nodes(UNSCHEDULABLE, asked, NODES)
    assert found.reason == reason
    assert words in found.message
    assert SCHEDULER in found.message
    assert not found.stalled, "a node may be added"


def test_a_pod_that_waits_for_no_gpu_shows_the_schedulers_message() -> None:
    other = Diagnosis("Unschedulable", "0/4 nodes are available: 4 Insufficient memory.")
    assert add_nodes(other, gpu(), NODES) == other


def test_gpus_that_fit_the_servers_estimate_are_found_among_the_nodes() -> None:
    """The server's message matches the operator's pattern."""
    config = {
        "model_type": "llama", "hidden_size": 8192, "num_hidden_layers": 80, "vocab_size": 128256,
        "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 28672,
        "max_position_embeddings": 8192, "dtype": "bfloat16",
    }  # fmt: skip
    small = assess_fit(MemoryNeed("org/small", {**config, "num_hidden_layers": 16}), [22 << 30])
    large = assess_fit(MemoryNeed("org/large", config), [22 << 30])
    assert small
    assert large
    found = add_nodes(Diagnosis(small.reason, small.message, small.remedy, stalled=True), gpu(), NODES, "a")
    assert "that have GPUs of" in found.remedy
    assert "NVIDIA-H100-80GB-HBM3" in found.remedy
    assert found.stalled
    assert "NVIDIA-L4" not in found.remedy.partition("Nodes of this cluster")[2]
    found = add_nodes(Diagnosis(large.reason, large.message, large.remedy), gpu(), NODES, "a")
    assert "No node of this cluster has enough GPUs of" in found.remedy


def test_without_an_estimate_gpus_larger_than_the_tried_one_are_named() -> None:
    said = Diagnosis("OutOfMemoryWeights", "m does not fit the memory of the GPU.", "Use a larger one.")
    assert "GPUs of more than 22 GiB: 8 nvidia.com/gpu (NVIDIA-H100" in add_nodes(said, gpu(), NODES, "a").remedy
    assert "No node of this cluster" in add_nodes(said, gpu(), NODES, "c").remedy
    assert add_nodes(said, gpu(), NODES, "unknown") == said


def test_a_share_of_a_gpu_has_the_memory_in_its_name() -> None:
    labels = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB", "nvidia.com/gpu.memory": "40960"}
    allocatable = {"nvidia.com/mig-1g.5gb": "2", "nvidia.com/mig-3g.20gb": "1"}
    whole = node("g", 0, "", 0)
    shared = parse_node(
        {"metadata": {"name": "g", "labels": labels}, "status": {**whole["status"], "allocatable": allocatable}}
    )
    small = Gpu(resource="nvidia.com/mig-1g.5gb")
    original = Diagnosis("OutOfMemoryWeights", "m does not fit.", "Use GPUs of at least 12 GiB.")
    assert "No node of this cluster has enough GPUs of 12 GiB" in add_nodes(original, small, [shared], "g").remedy
    large = replace(small, resource="nvidia.com/mig-3g.20gb")
    assert (
        "1 nvidia.com/mig-3g.20gb (NVIDIA-A100-SXM4-40GB, 20 GiB each)" in add_nodes(original, large, [shared]).remedy
    )


def test_nodes_are_listed_only_if_they_help() -> None:
    assert needs_nodes(UNSCHEDULABLE, gpu())
    assert not needs_nodes(UNSCHEDULABLE, gpu(0))
    assert not needs_nodes(Diagnosis("ImageNotFound", ""), gpu())
    assert not needs_nodes(None, gpu())
