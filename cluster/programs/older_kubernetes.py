"""An older control plane for `make integration KUBERNETES=1.32`: kube-apiserver and kube-controller-manager.

`kubernetes/VERSION` is a Go module that pins it. Nothing else of the cluster is built from it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from cluster import pins
from cluster.steps import StepFailed, built, step
from cluster.tools import FLAGS, go_environment

MODULES = pins.CLUSTER / "kubernetes"
VERSION_VARIABLE = "FOREBAY_KUBERNETES"
"""The variable with the version, such as 1.32. Without it, the tests use the cluster's version."""

PACKAGES = ("k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kube-controller-manager")


def chosen_servers() -> Path | None:
    """Return the folder with the programs of the version in VERSION_VARIABLE. None without a version.

    Missing programs are built. Raises StepFailed for a version without a module, and if the build fails.
    """
    version = os.environ.get(VERSION_VARIABLE, "")
    return build_servers(version) if version else None


def build_servers(version: str) -> Path:
    """Return the folder with the programs of a version, and build them if they are missing. Raises StepFailed."""
    module = MODULES / version
    if not re.fullmatch(r"\d+\.\d+", version) or not module.is_dir():
        known = ", ".join(sorted(path.name for path in MODULES.iterdir()))
        raise StepFailed(f"there is no Go module for Kubernetes {version}", f"use one of: {known}")
    stamp = _linker_flags((module / "go.mod").read_text())
    key = pins.key([*PACKAGES, *FLAGS, stamp], pins.files(module))

    def compile_into(folder: Path) -> None:
        with step(f"compiling Kubernetes {version}", "check that the Go module proxy can be reached") as compiling:
            command: list[str | Path] = [
                "go",
                "-C",
                module,
                "build",
                f"-o={folder}/",
                *FLAGS,
                f"-ldflags={stamp}",
                *PACKAGES,
            ]
            compiling.run(command, env=go_environment() | {"CGO_ENABLED": "0"})

    return built(pins.cache() / "kubernetes" / f"{version}-{key}", compile_into)


def _linker_flags(module: str) -> str:
    """Build the linker's flags with the version that the programs report, from the text of a go.mod."""
    found = re.search(r"^(?:require)?\s*k8s\.io/kubernetes v(\d+)\.(\d+)\.(\d+)\b", module, re.MULTILINE)
    if not found:
        raise StepFailed("go.mod does not name k8s.io/kubernetes", "write `require k8s.io/kubernetes vX.Y.Z`")
    major, minor, patch = found.groups()
    values = {"gitVersion": f"v{major}.{minor}.{patch}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = "k8s.io/component-base/version", "k8s.io/client-go/pkg/version"
    return " ".join(["-s -w", *(f"-X {each}.{name}={value}" for each in packages for name, value in values.items())])
