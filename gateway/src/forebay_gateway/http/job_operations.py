"""The operations of RunPod's job API: how their paths look."""

import re

OPERATION_METHODS = {
    "run": {"POST"},
    "runsync": {"POST"},
    "status": {"GET", "POST"},
    "status-sync": {"GET", "POST"},
    "stream": {"GET", "POST"},
    "cancel": {"POST"},
    "retry": {"POST"},
    "purge-queue": {"POST"},
    "health": {"GET"},
}
"""Operation -> the methods that it is asked by."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")

_NEEDS_ID = {"status", "status-sync", "stream", "cancel", "retry"}


def read_operation(rest: str) -> str:
    """The operation, with its ID, of what comes after /v2/ENDPOINT/; "" for what is none."""
    operation, slash, job_id = rest.partition("/")
    if operation not in OPERATION_METHODS or bool(slash) != (operation in _NEEDS_ID):
        return ""
    if slash and not _ID.fullmatch(job_id):
        return ""
    return rest
