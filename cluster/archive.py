"""Image archives of single static programs, as `docker save` writes them: no engine is needed to make one."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

FOLDER = "/usr/local/bin"
PATH = f"/usr/local/sbin:{FOLDER}:/usr/sbin:/usr/bin:/sbin:/bin"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def entry(name: str, size: int = 0, mode: int = 0o644, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    """A tar entry that belongs to root and carries no time, so that the same content gives the same archive."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type = size, mode, kind
    return info


def layer(program: Path) -> bytes:
    """A layer that holds one program in FOLDER."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("usr", "usr/local", "usr/local/bin"):
            tar.addfile(entry(folder, mode=0o755, kind=tarfile.DIRTYPE))
        content = program.read_bytes()
        tar.addfile(entry(f"{FOLDER}/{program.name}".lstrip("/"), len(content), 0o755), io.BytesIO(content))
    return buffer.getvalue()


def write(target: Path, reference: str, program: Path) -> None:
    """Write the archive of an image, named `reference`, that holds and runs one program."""
    content = layer(program)
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": [f"{FOLDER}/{program.name}"], "Env": [f"PATH={PATH}"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [reference], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(target, "w") as tar:
        for file, data in (("layer.tar", content), (name, config), ("manifest.json", manifest)):
            tar.addfile(entry(file, len(data)), io.BytesIO(data))
