"""The operations of RunPod's job API, and how to parse their paths.

`routes` parses paths with them, and the job API answers them.
"""

import re

from forebay_protocol.routes import locate

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
"""Operation -> its methods."""

_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")

_NEEDS_ID = {"status", "status-sync", "stream", "cancel", "retry"}


def named_operation(path: str) -> str:
    """The operation that a path names, even without a valid ID; "" for none."""
    location = locate(path)
    operation = location.rest.partition("/")[0] if location and not location.path else ""
    return operation if operation in OPERATION_METHODS else ""


def needs_id(operation: str) -> bool:
    """Whether the operation's path ends with a job's ID."""
    return operation in _NEEDS_ID


def read_operation(rest: str) -> str:
    """Parse the path after /v2/ENDPOINT/. Returns the operation with its ID; "" for any other path."""
    operation, slash, job_id = rest.partition("/")
    if operation not in OPERATION_METHODS or bool(slash) != (operation in _NEEDS_ID):
        return ""
    if slash and not _JOB_ID.fullmatch(job_id):
        return ""
    return rest
