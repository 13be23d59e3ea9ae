"""What runs pods on machines that do not exist: kube-scheduler, and kwok, which plays the nodes."""

from __future__ import annotations

from pathlib import Path

from cluster import pins, tools
from cluster.steps import built, step

PROGRAMS = {
    pins.GO_MODULE: "k8s.io/kubernetes/cmd/kube-scheduler",
    pins.KWOK_MODULE: "sigs.k8s.io/kwok/cmd/kwok",
}


def scale_tools() -> Path:
    """The folder with kube-scheduler and kwok; built when missing."""
    sources = [module / name for module in PROGRAMS for name in ("go.mod", "go.sum")]
    key = pins.key([*PROGRAMS.values(), *tools.FLAGS, tools.linker_flags()], pins.files(*sources))
    return built(pins.cache() / "scale" / key, compile_into)


def compile_into(folder: Path) -> None:
    """Compile both into a folder, with the flags of the other tools, so that all share what Go has compiled before."""
    remedy = "see that the Go module proxy can be reached (go env GOPROXY) and that the disk is not full"
    options = ["-v", f"-o={folder}/", *tools.FLAGS, f"-ldflags={tools.linker_flags()}"]
    env = tools.go_environment() | {"CGO_ENABLED": "0"}
    with step("compiling kube-scheduler and kwok", remedy) as compiling:
        for module, package in PROGRAMS.items():
            compiling.run(["go", "-C", module, "build", *options, package], env=env)
