"""kube-network-policies, which enforces NetworkPolicies: built from its Go module, installed by its manifests."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from cluster import kind, pins, tools
from cluster.tools import Programs
from tests.e2e.cluster import NAME as CLUSTER
from tests.e2e.go_images import load_program
from tests.kubectl import Kubectl, Manifest

MODULE = "sigs.k8s.io/kube-network-policies"
PINNED_BY = pins.CLUSTER / "policies"
PROGRAM = Programs("policies", (f"{MODULE}/cmd",), (PINNED_BY / "go.mod", PINNED_BY / "go.sum"), PINNED_BY)

QUEUE = "98"
"""The netfilter queue through which the kernel asks the program about a new connection."""

RULE = (
    "POSTROUTING --table mangle --match conntrack --ctstate NEW --match addrtype ! --src-type LOCAL"
    f" --jump NFQUEUE --queue-num {QUEUE}"
)
"""The program's own rule needs nftables' queue statement, which not every kernel has. Like it, this one asks about all
connections but the node's own, such as the kubelet's."""


def manifests(image: str) -> list[Manifest]:
    """The manifest of its project, with this image."""
    text = (tools.download_module(PINNED_BY, MODULE) / "install.yaml").read_text()
    found: list[Manifest] = [each for each in yaml.safe_load_all(text) if each]
    (daemons,) = (each for each in found if each["kind"] == "DaemonSet")
    (container,) = daemons["spec"]["template"]["spec"]["containers"]
    container |= {"image": image, "imagePullPolicy": "Never"}
    container["args"] = [each for each in container["args"] if each.startswith("--")]
    assert f"--nfqueue-id={QUEUE}" in container["args"]
    return found


@contextmanager
def enforced_policies(cluster: Kubectl, folder: Path) -> Iterator[None]:
    """The cluster enforces NetworkPolicies while the context lasts; the folder is for the program's image."""
    tools.build(PROGRAM)
    listed = {"apiVersion": "v1", "kind": "List", "items": manifests(load_program(PROGRAM.folder / "cmd", folder))}
    system = cluster.within("kube-system")
    nodes = kind.nodes(CLUSTER)
    try:
        system.run("apply", "-f", "-", stdin=json.dumps(listed))
        system.run("rollout", "status", "daemonset/kube-network-policies", "--timeout=90s")
        for node in nodes:
            on_node(node, f"iptables --append {RULE}")
        yield
    finally:
        for node in nodes:
            subprocess.run(["docker", "exec", node, "sh", "-c", f"iptables --delete {RULE}"], check=False, timeout=60)
        system.run("delete", "--ignore-not-found", "-f", "-", stdin=json.dumps(listed))


def on_node(node: str, command: str) -> str:
    """The output of a shell command on a node."""
    done = subprocess.run(
        ["docker", "exec", node, "sh", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
