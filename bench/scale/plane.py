"""A control plane with a scheduler and with nodes that kwok plays, for the requested number of pods."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.pins import ROOT
from cluster.programs.scale import scale_tools
from cluster.tools import host_tools
from tests.integration.control_plane import running, start_control_plane
from tests.integration.operator_process import give_access
from tests.kubectl import Kubectl, Manifest, wait_for

CRD = ROOT / "crds/inferenceendpoints.forebay.dev.yaml"
STAGES = Path(__file__).with_name("stages.yaml")

QPS = ("--kube-api-qps=1000", "--kube-api-burst=2000")
"""Limits of controllers and scheduler. Their defaults (20 and 50 a second) would distort the measurement."""

GPUS_PER_NODE = 200
POD_ADDRESS = "127.64.0.1"
"""The address of all pods, as stages.yaml says. One server of the benchmark answers for them."""


@dataclass(frozen=True)
class Plane:
    """A control plane that runs.

    Attributes:
        admin: kubectl of an administrator, whose requests are not in the audit log.
        operator: kubectl with the operator's own rights, all of whose requests are.
        audit: the audit log.
    """

    admin: Kubectl
    operator: Kubectl
    audit: Path


@contextmanager
def start_plane(folder: Path, pods: int) -> Iterator[Plane]:
    """Start it, with GPUs for so many pods, and end it with the context."""
    # no others: those of slices and of disruption budgets look at all of a namespace's for each pod
    # one audit log, however long; no taint on new nodes, as the controller that removes it does not run
    api_server_flags = "--audit-log-maxsize=100000", "--disable-admission-plugins=TaintNodesByCondition"
    with ExitStack() as stack:
        plane = stack.enter_context(
            start_control_plane(
                host_tools(),
                folder,
                CRD,
                controller_flags=QPS,
                api_server_flags=api_server_flags,
            )
        )
        admin = plane.kubectl
        scheduler, kwok = scale_tools()
        access = ("--kubeconfig", admin.kubeconfig)
        schedule = (scheduler, *access, "--leader-elect=false", *QPS, "--secure-port=0")
        stack.enter_context(running(folder / "scheduler.log", *schedule))
        play = (kwok, *access, "--manage-all-nodes", f"--config={STAGES}")
        stack.enter_context(running(folder / "kwok.log", *play))
        operator = give_access(admin, folder / "operator.kubeconfig")
        nodes = [_build_node(number) for number in range(-(-pods // GPUS_PER_NODE))]
        for node in nodes:
            admin.apply(node)
        wait_for(lambda: all("phase" in node["status"] for node in admin.list("nodes")), "the nodes are ready")
        yield Plane(admin, operator, folder / "audit.log")


def _build_node(number: int) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"gpus-{number}",
            "annotations": {"forebay.dev/gpus": str(GPUS_PER_NODE)},
            "labels": {"kubernetes.io/hostname": f"gpus-{number}", "kubernetes.io/os": "linux"},
        },
    }
