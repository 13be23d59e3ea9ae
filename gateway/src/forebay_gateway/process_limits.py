"""Adjusts the operating system's limits of this process: open files, and memory that glibc keeps. `app` calls it."""

import ctypes
import dataclasses
import logging
import resource
from contextlib import suppress

from forebay_gateway.settings import Limits

logger = logging.getLogger(__name__)

OTHER_DESCRIPTORS = 512
"""Open files for everything except clients and their pods: watches, jobs, Valkey, webhooks, listeners."""

MIN_CONNECTIONS = 128

MAX_DESCRIPTORS = 1 << 20
"""Linux's own limit for a process by default (fs.nr_open)."""

M_MMAP_THRESHOLD, LARGE_PIECE = -3, 1 << 20
"""The option's number in glibc's malloc.h, and its value in bytes."""


def raise_descriptors() -> int:
    """Raise the soft limit of open files to the hard limit, and return the new limit. A container may begin with
    1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def fit_connections(limits: Limits, descriptors: int) -> Limits:
    """Reduce the limit of connections to the available descriptors: one for the client and one for the pod.

    Raises SystemExit if fewer than MIN_CONNECTIONS would be left.
    """
    fitting = (descriptors - OTHER_DESCRIPTORS) // 2
    if fitting < MIN_CONNECTIONS:
        raise SystemExit(
            f"a gateway needs {OTHER_DESCRIPTORS + 2 * MIN_CONNECTIONS} open files, and may have {descriptors}: "
            "raise the limit (ulimit -n, or LimitNOFILE of the container runtime)"
        )
    if fitting >= limits.connections:
        return limits
    logger.warning("%d open files are allowed, so at most %d connections", descriptors, fitting)
    return dataclasses.replace(limits, connections=fitting)


def release_memory() -> None:
    """Make glibc return large blocks of memory to the system once they are free.

    By default glibc may keep free blocks of up to 32 MiB, because they lie between memory in use (mallopt(3),
    M_MMAP_THRESHOLD).
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_PIECE)
