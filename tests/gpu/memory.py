"""The memory of servers: of the GPU if there is one, else of their processes."""

import os
import subprocess

from bench.servers import Server

QUERY = ("nvidia-smi", "--format=csv,noheader,nounits")


def ask_driver(*fields: str) -> list[str]:
    """The output of nvidia-smi for the first visible GPU; [] without a GPU."""
    visible = (os.environ.get("CUDA_VISIBLE_DEVICES") or "0").split(",")[0]
    command = [*QUERY, f"--id={visible}", f"--query-gpu={','.join(fields)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [field.strip() for field in done.stdout.strip().split(",")]


def total_mib() -> float:
    """The GPU's memory; 0 without a GPU."""
    return float((ask_driver("memory.total") or ["0"])[0])


def used_mib(server: Server) -> float:
    """MiB of the GPU that all processes use; without a GPU, of the machine that the server's processes use."""
    if answer := ask_driver("memory.used"):
        return float(answer[0])
    return server.memory_bytes() / 2**20
