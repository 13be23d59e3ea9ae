"""The image of a kind node: the public one where it can be pulled, else one made of Go programs and Debian packages."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster import archive, debian, docker, pins, tools
from cluster.steps import StepFailed, output, step

FOLDER = pins.CLUSTER / "node"

MINICNI = f"{pins.IMAGE_PREFIX}/minicni:1"
"""As files/kind/manifests/default-cni.yaml names it."""

PROGRAMS = {
    "bin": ("kubelet", "kubeadm", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr", "crictl"),
    "cni": ("bridge", "host-local", "loopback", "portmap", "ptp"),
    "kube-proxy": ("kube-proxy",),
}
"""The folders of programs that the Dockerfile copies."""


def image() -> str:
    """The reference of the node image, made when neither the engine nor a registry has one.

    The tools for the host are compiled with it, since a node needs some of them as well.
    """
    if found := present():
        return found
    if docker.pull(pins.OFFICIAL_NODE):
        return pins.OFFICIAL_NODE
    reference = f"{pins.IMAGE_PREFIX}/node:{key()}"
    with ThreadPoolExecutor() as side_by_side:
        base = side_by_side.submit(system)
        tools.build(tools.HOST, tools.NODE)
        folders = (tools.HOST.folder, tools.NODE.folder)
        make(reference, base.result(), {path.name: path for folder in folders for path in folder.iterdir()})
    return reference


def present() -> str:
    """The reference of the node image that the engine has; "" if it has none."""
    names = (pins.OFFICIAL_NODE, f"{pins.IMAGE_PREFIX}/node:{key()}")
    return next(filter(docker.has, names), "")


def plan() -> list[str]:
    """The steps that `image` has to do, by their names."""
    if present():
        return []
    compiling = [] if tools.HOST.folder.is_dir() and tools.NODE.folder.is_dir() else ["compiling Go programs"]
    return [*compiling, "installing Debian packages for the node image", "making the node image"]


def key() -> str:
    """Changes with anything in the checkout that the node image is made of."""
    code = [pins.CLUSTER / name for name in ("archive.py", "debian.py", "node.py", "tools.py")]
    return pins.key([pins.DEBIAN], [*pins.files(FOLDER, pins.GO_MODULE), *code])


def system() -> str:
    """Make the part of the image that needs no Go program, ahead of the rest; returns the base image's reference."""
    base = debian.image()
    with step(
        "installing Debian packages for the node image", "check that the Debian archive can be reached"
    ) as making:
        dockerfile = [("Dockerfile", FOLDER / "Dockerfile")]
        docker.build(
            making, f"{pins.IMAGE_PREFIX}/node-system:{key()}", dockerfile, {"BASE_IMAGE": base}, target="system"
        )
    return base


def make(reference: str, base: str, go: dict[str, Path]) -> None:
    """Build the node image from its base image and the Go programs."""
    args = {"BASE_IMAGE": base, "KUBERNETES_VERSION": pins.go_version("k8s.io/kubernetes")}
    entries = [
        *((str(path.relative_to(FOLDER)), path) for path in pins.files(FOLDER)),
        *((f"{folder}/{name}", go[name]) for folder, names in PROGRAMS.items() for name in names),
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        step("making the node image", "check that the disk is not full") as making,
    ):
        archives = Path(folder)
        for image_reference, program in control_plane(go).items():
            target = archives / f"{program}.tar"
            if program == "kube-proxy":
                docker.build(making, image_reference, entries, args, target="kube-proxy")
                making.run(["docker", "save", "--output", target, image_reference])
                making.run(["docker", "rmi", image_reference])
            else:
                archive.write(target, image_reference, go[program])
        entries += [(f"archives/{path.name}", path) for path in sorted(archives.iterdir())]
        docker.build(making, reference, entries, args)


def control_plane(go: dict[str, Path]) -> dict[str, str]:
    """The images of the control plane as its kubeadm names them, and minicni's: {reference: program}."""
    version = pins.go_version("k8s.io/kubernetes")
    listed = output([go["kubeadm"], "config", "images", "list", "--kubernetes-version", version])
    if not listed:
        raise StepFailed("kubeadm does not list its images", f"run {go['kubeadm']} config images list")
    images = {reference: reference.rpartition("/")[2].partition(":")[0] for reference in listed.split()}
    pause = next(reference for reference, program in images.items() if program == "pause")
    config = FOLDER / "files/etc/containerd/config.toml"
    if f'"{pause}"' not in config.read_text():
        raise StepFailed(f"{config} does not name kubeadm's {pause}", "write that reference at pinned_images.sandbox")
    return images | {MINICNI: "minicni"}
