"""The processor time of this machine, as /proc/stat has it."""

from __future__ import annotations

import os
from pathlib import Path


def cpu_seconds() -> float:
    """Seconds that all cores together have worked since the machine started, containers included; 0 without /proc."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return 0.0
    user, nice, system, _idle, _wait, irq, soft_irq, *_ = map(int, stat.read_text().splitlines()[0].split()[1:])
    return (user + nice + system + irq + soft_irq) / os.sysconf("SC_CLK_TCK")
