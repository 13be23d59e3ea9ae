"""Every version of the cluster's parts, and the folder of the build results.

Versions of Go programs are in `go/go.mod`; this module reads them there.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLUSTER = ROOT / "cluster"
GO_MODULE = CLUSTER / "go"
KWOK_MODULE = CLUSTER / "kwok"
"""A separate module: kwok needs other versions of some modules, and is built only for its users."""

DEBIAN = "bookworm"
"""The release that images made here are based on."""

OFFICIAL_NODE = "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5"
"""The default node image of the kind release in go.mod (its pkg/apis/config/defaults/image.go)."""

OFFICIAL_PYTHON = "python:3.13-slim"
OFFICIAL_VLLM_CPU = "vllm/vllm-openai-cpu:v0.32.0-x86_64"

IMAGE_PREFIX = "forebay.local"
"""A name that no registry answers to: an image made here is never pulled by accident."""

PASSING = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", "build", "dist", "node_modules"}
"""Names of folders that tools leave behind. They are never an input of a build."""


def cache() -> Path:
    """The folder outside the checkout with build results: $FOREBAY_CACHE, else ~/.cache/forebay."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("FOREBAY_CACHE") or f"{base}/forebay")


def go_version(module: str) -> str:
    """The version of a module in go.mod, such as "v1.37.2"; "go" gives the language version, such as "1.26.6".

    Raises KeyError when go.mod does not name the module.
    """
    found = re.search(rf"^(?:require)?\s*{re.escape(module)} (\S+)", (GO_MODULE / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise KeyError(f"{GO_MODULE / 'go.mod'} does not name {module}")
    return found[1]


def files(*roots: Path) -> Iterator[Path]:
    """The files at and under the roots in a fixed order, without what tools leave behind."""
    for root in roots:
        if root.is_file():
            yield root
            continue
        for folder, below, names in os.walk(root):
            below[:] = sorted(name for name in below if name not in PASSING and not name.endswith(".egg-info"))
            yield from (Path(folder, name) for name in sorted(names) if not name.endswith(".pyc"))


def key(texts: Iterable[str], inputs: Iterable[Path] = (), base: Path = ROOT) -> str:
    """A name for what is made of these texts and files: 12 hex digits that change when any of them does.

    For a file, the key depends on its path below `base`, its content, and whether the file is executable.
    """
    digest = hashlib.sha256()
    for text in texts:
        digest.update(f"{len(text)}:{text}".encode())
    for path in inputs:
        name = os.path.relpath(path, base)
        content = path.read_bytes()
        digest.update(f"{len(name)}:{name}:{os.access(path, os.X_OK)}:{len(content)}:".encode() + content)
    return digest.hexdigest()[:12]
