"""Creates, checks and deletes the kind cluster."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from cluster import docker, image_store, node, pins, tools
from cluster.steps import Step, StepFailed, last_lines, output, say, step, wait_until

CONFIG = pins.CLUSTER / "kind.yaml"
LABEL = "io.x-k8s.kind.cluster"
"""The label that kind gives to its containers; its value is the cluster's name."""

NETWORK = "kind"
"""The docker network that all clusters of kind share."""


def ensure_engine() -> None:
    """Have a docker engine that answers; if it had to be started, clear the clusters that died with the one before."""
    if docker.ensure():
        for record in pins.cache().glob("*.cluster.json"):
            delete(record.name.removesuffix(".cluster.json"))


def up(name: str, load: Callable[[bool], None] = lambda _: None) -> None:
    """Have the cluster running and whole: a complete one stays as it is, any other is created again.

    `load` brings images into the cluster. Its argument says whether the cluster is new: then `load` runs while the
    cluster still starts. A record that is written last distinguishes a complete cluster from an interrupted run. The
    docker engine must already be running.
    """
    image = node.image()
    tools.host_tools()
    if is_recorded(name, image) and is_healthy(name):
        say(f"    the cluster {name} is running; KUBECONFIG={kubeconfig(name)}")
        load(False)
        return
    delete(name)
    store = image_store.claim(name, image)
    with step(f"creating the cluster {name}", "check that 3 GB of memory are free, then run again") as creating:
        # --retain: the kind of an interrupted run must not delete, when it fails in the end, what this run makes.
        command = ["kind", "create", "cluster", "--retain", "--name", name, "--image", image, "--config=-"]
        with tempfile.TemporaryFile() as config:
            config.write(configuration(store).encode())
            config.seek(0)
            creating.run([*command, "--kubeconfig", kubeconfig(name)], env=environment(name), stdin=config)
    with ThreadPoolExecutor(1) as beside:
        loading = beside.submit(load, True)
        with step(f"waiting for the cluster {name} to be whole", "read the log, or run again") as waiting:
            wait(waiting, name)
        loading.result()
    record_path(name).write_text(json.dumps({"key": key_of(image), "containers": containers(name)}))
    say(f"    KUBECONFIG={kubeconfig(name)}")


def key_of(node_image: str) -> str:
    """Changes with what a cluster is made from."""
    return pins.key([node_image, configuration("")])


def is_recorded(name: str, node_image: str) -> bool:
    """Whether the record says that the containers that run are a whole cluster of this node image."""
    return recorded(name) == (key_of(node_image), containers(name))


def configuration(store: str) -> str:
    """kind.yaml with the folder of the node's image store in it."""
    role = "  - role: control-plane\n"
    mount = f"    extraMounts: [{{hostPath: {json.dumps(store)}, containerPath: {image_store.FOLDER}}}]\n"
    before, _, after = CONFIG.read_text().partition(role)
    return f"{before}{role}{mount}{after}"


def down(name: str) -> None:
    """Remove the cluster, and the engine if this package started it and nothing else runs in it."""
    if docker.trouble():
        say("    no docker engine answers, so no cluster runs; what is left of one is cleared by the next `up`")
        return
    delete(name)
    docker.stop()


def delete(name: str) -> None:
    """Remove the cluster, even if it is incomplete or its engine died. Its image store stays."""
    running = containers(name)
    if running and recorded(name)[1] == running:
        for target in nodes(name):
            image_store.release(name, target)
    record_path(name).unlink(missing_ok=True)
    kubeconfig(name).unlink(missing_ok=True)
    left = containers(name, "--all")
    if left:
        with step(f"deleting the cluster {name}") as deleting:
            deleting.run(["docker", "rm", "--force", "--volumes", *left])
    others = output(["docker", "ps", "--all", "--quiet", "--filter", f"label={LABEL}"])
    if others == "" and output(["docker", "network", "inspect", NETWORK]):
        with step(f"removing the docker network {NETWORK}") as removing:
            removing.run(["docker", "network", "rm", NETWORK])


def kubeconfig(name: str) -> Path:
    """The file that kubectl needs to reach the cluster."""
    return pins.cache() / f"{name}.kubeconfig"


def environment(name: str) -> dict[str, str]:
    """An environment in which kubectl, helm and kind are the pinned ones and speak to the cluster."""
    path = f"{tools.host_tools()}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"KUBECONFIG": str(kubeconfig(name)), "PATH": path}


def record_path(name: str) -> Path:
    """The file with the containers of the complete cluster and the key of their inputs."""
    return pins.cache() / f"{name}.cluster.json"


def recorded(name: str) -> tuple[str, list[str]]:
    """The key and the containers in the record; empty without a record."""
    try:
        record = json.loads(record_path(name).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return "", []
    return record["key"], record["containers"]


def containers(name: str, *options: str) -> list[str]:
    """The ids of the cluster's running containers, with "--all" those that ended as well."""
    listed = output(["docker", "ps", "--no-trunc", "--quiet", "--filter", f"label={LABEL}={name}", *options])
    return sorted((listed or "").split())


def nodes(name: str) -> list[str]:
    """The names of the cluster's nodes. A node has the name of its container."""
    listed = output(["docker", "ps", "--format", "{{.Names}}", "--filter", f"label={LABEL}={name}"])
    return sorted((listed or "").split())


def is_healthy(name: str) -> bool:
    """Whether a complete cluster still works; it may need a minute after its machine started."""
    try:
        with step(f"checking the cluster {name}") as checking:
            checking.run(["kind", "export", "kubeconfig", "--name", name], env=environment(name))
            wait(checking, name)
    except StepFailed as failure:
        say(f"{failure}\n    the cluster {name} is created again")
        return False
    return True


def wait(waiting: Step, name: str) -> None:
    """Wait until pods can be run: the API answers, nodes are ready, and each part of kube-system has rolled out."""
    env = environment(name)

    def kubectl(*args: str) -> None:
        waiting.run(["kubectl", *args], env=env)

    def ready() -> bool:
        return output(["kubectl", "get", "--raw=/readyz", "--request-timeout=5s"], env=env) is not None

    wait_until(ready, "the API server's first answer", 90)
    kubectl("wait", "node", "--all", "--for=condition=Ready", "--timeout=180s")
    parts = output(["kubectl", "-n", "kube-system", "get", "daemonsets,deployments", "-o", "name"], env=env)
    for part in (parts or "").split():
        kubectl("-n", "kube-system", "rollout", "status", part, "--timeout=180s")
    kubectl("wait", "serviceaccount/default", "--for=create", "--timeout=60s")


def begin_export(name: str, references: Sequence[str]) -> docker.Export | None:
    """Let the engine export images for `load` while the cluster is not yet created.

    None if the cluster runs, or if an image store exists: then the missing images are unknown.
    """
    return None if not references or containers(name) or image_store.volumes(name) else docker.Export(references)


def load(name: str, references: Sequence[str], *, alone: bool = False, export: docker.Export | None = None) -> None:
    """Bring images into every node that does not have them by that name; `alone` removes others that were made here.

    `export` is used if it has exactly the missing images.
    """
    targets = nodes(name)
    if not targets:
        say(f"    no cluster {name} runs, so nothing is loaded")
    for target in targets:
        ctr = ["docker", "exec", "--interactive", target, "ctr", "--namespace=k8s.io", "images"]
        # containerd adds the registry to the names of public images, and docker does not
        have = {each.removeprefix("docker.io/") for each in (output([*ctr, "list", "--quiet"]) or "").split()}
        ours = {each for each in have if each.startswith(f"{pins.IMAGE_PREFIX}/")}
        if alone and (left := ours - {node.MINICNI, *references}):
            with step(f"removing images of before from {target}") as removing:
                removing.run([*ctr, "remove", *sorted(left)])
        missing = set(references) - have
        if missing:
            with step(f"loading images into {target}", "check that the disk is not full: df -h") as loading:
                say("    " + ", ".join(sorted(missing)))
                with export if export and export.references == missing else docker.Export(missing) as ready:
                    copy(loading, ready, [*ctr, "import", "--all-platforms", "--digests", "-"])


def copy(loading: Step, export: docker.Export, importing: Sequence[str]) -> None:
    """Stream images from the engine into a command that imports them."""
    whole = docker.size(export.references)
    sent = 0
    loading.progress = lambda: f"{sent / 1e9:.1f} GB sent of {whole / 1e9:.1f}"
    loading.parts = lambda: (sent, whole)
    with (
        loading.log.open("ab") as log,
        subprocess.Popen(importing, stdin=subprocess.PIPE, stdout=log, stderr=log) as sink,
    ):
        assert sink.stdin
        with suppress(BrokenPipeError):  # the sink says why
            while piece := export.read():
                sink.stdin.write(piece)
                sent += len(piece)
            sink.stdin.close()
        if sink.wait():
            raise StepFailed(last_lines(loading.log, 5))


def advertise_gpus(name: str, target: str, count: int, resource: str = "nvidia.com/gpu") -> None:
    """Advertise GPUs on a node, so that pods that request one are scheduled on it; 0 removes them.

    No real GPU backs them. The value outlives restarts of the kubelet.
    """
    escaped = resource.replace("~", "~0").replace("/", "~1")
    patch = [
        {"op": "add", "path": f"/status/{kind}/{escaped}", "value": str(count)} for kind in ("capacity", "allocatable")
    ]
    with step(f"giving {target} {count} of {resource}", "kubectl get nodes shows the names of nodes") as patching:
        args = ["kubectl", "patch", "node", target, "--subresource=status", "--type=json", "-p", json.dumps(patch)]
        patching.run(args, env=environment(name))
