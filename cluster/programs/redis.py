"""Redis for the tests of the job queue: Debian's, as it has the queue's least version."""

from __future__ import annotations

import shutil
from pathlib import Path

from cluster import apt, pins

PACKAGE = "redis-tools"
"""Its redis-check-rdb is the server too, by the name that it is called by; redis-server would also start a service."""


def found_server() -> Path | None:
    """The program redis-server, if it is installed already."""
    if found := shutil.which("redis-server"):
        return Path(found)
    link = link_path()
    return link if link.exists() else None


def link_path() -> Path:
    """The package's program is named redis-server there."""
    return pins.cache() / "redis/redis-server"


def server() -> Path:
    """Find the program redis-server. Install it if it is missing."""
    if found := found_server():
        return found
    apt.need({"redis-check-rdb": [PACKAGE]}, "tests of the job queue")
    link = link_path()
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(str(shutil.which("redis-check-rdb")))
    return link
