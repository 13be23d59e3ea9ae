"""Runs pods on machines that do not exist: kube-scheduler, and kwok, which simulates the nodes."""

from __future__ import annotations

from pathlib import Path

from cluster import pins, tools
from cluster.tools import Programs

SCHEDULER = Programs("scheduler", ("k8s.io/kubernetes/cmd/kube-scheduler",))

KWOK = Programs(
    "kwok",
    ("sigs.k8s.io/kwok/cmd/kwok",),
    (pins.KWOK_MODULE / "go.mod", pins.KWOK_MODULE / "go.sum"),
    pins.KWOK_MODULE,
)


def scale_tools() -> tuple[Path, Path]:
    """The programs kube-scheduler and kwok; built when missing."""
    tools.build(SCHEDULER, KWOK)
    return SCHEDULER.folder / "kube-scheduler", KWOK.folder / "kwok"
