"""The image store of a cluster's node: a docker volume that outlives the node, so that images are loaded once.

`kind.up` mounts it as the node's /var/lib/containerd. It is used again only if the node before it ended in order, since
a store also records containers, and containers of a dead node must not come back.
"""

from __future__ import annotations

from cluster import docker, pins
from cluster.steps import StepFailed, output, say, step

FOLDER = "/var/lib/containerd"
LABEL = "forebay.dev/image-store"
"""The label of such volumes; its value is the cluster's name."""

RELEASED = "forebay-released"
"""A file in the store that says: no container is recorded here, and no node uses it."""

EMPTY = f"""
set -eu
systemctl stop kubelet
for pods in $(crictl pods --quiet); do crictl rmp --force "$pods"; done
test -z "$(ctr --namespace k8s.io containers list --quiet)"
systemctl stop containerd
touch {FOLDER}/{RELEASED}
"""
"""Remove all pods of a node and end its containerd. kubelet ends first: it would start them again."""


def volume(name: str, node_image: str) -> str:
    """The name of the volume for a cluster whose node has this image. A node of another image gets another volume."""
    return f"{name}-images-{pins.key([node_image])}"


def claim(name: str, node_image: str) -> str:
    """Make the store of a new node ready and return its folder on the engine's machine.

    Volumes of other node images or of a dead node are removed. A new volume gets the images of the node image.
    """
    wanted = volume(name, node_image)
    for found in volumes(name):
        if found != wanted or not take(wanted, node_image):
            remove(found)
    if wanted not in volumes(name):
        with step(f"making an image store for {name}", "check that the disk is not full") as making:
            making.run(["docker", "volume", "create", f"--label={LABEL}={name}", wanted])
            # docker copies the image's own files into a volume that is empty
            making.run(beside(wanted, node_image, "true"))
    return docker.volume_folder(wanted)


def take(store: str, node_image: str) -> bool:
    """Remove the mark of a store that a node has released. Returns False if the store has no mark."""
    return output(beside(store, node_image, "rm", f"{FOLDER}/{RELEASED}")) is not None


def beside(store: str, node_image: str, program: str, *arguments: str) -> list[str]:
    """The command that runs a program of the node image with a store at its place."""
    mount = ["--network=none", "--volume", f"{store}:{FOLDER}", "--entrypoint", program]
    return ["docker", "run", "--rm", *mount, node_image, *arguments]


def release(name: str, node: str) -> None:
    """End what runs on a node that is about to be deleted, so that the next can have its store.

    If that fails, the store is lost: the next cluster loads its images again.
    """
    try:
        with step(f"keeping the images of {node}") as keeping:
            keeping.run(["docker", "exec", node, "timeout", "60", "bash", "-c", EMPTY])
    except StepFailed as failure:
        say(f"{failure}\n    the next cluster loads its images again")


def volumes(name: str) -> list[str]:
    """The volumes that hold a store of this cluster."""
    return (output(["docker", "volume", "ls", "--quiet", "--filter", f"label={LABEL}={name}"]) or "").split()


def remove(found: str) -> None:
    """Remove a volume that no container uses."""
    with step(f"removing the image store {found}") as removing:
        removing.run(["docker", "volume", "rm", found])
