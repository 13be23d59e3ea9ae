"""Reads which pod a client asks for, as with RunPod's load balancer (docs.runpod.io/serverless/load-balancing).

An answer names its pod in X-Runpod-Worker-Id. A request with this value prefers that pod. With `strict ` or
`strict-resume ` before it, only that pod may answer.
"""

import re
from dataclasses import dataclass

from forebay_gateway.http.messages import WORKER_ID, Head
from forebay_protocol.errors import ApiError

_WORKER_ID_FORM = re.compile(r"(strict(?:-resume)? )?([-.a-z0-9]{0,253})")

WORKER_GONE = ApiError(404, "The pod that X-Runpod-Worker-Id names does not exist (any more).", "affinity_worker_gone")
WORKER_LATE = ApiError(400, "The pod that X-Runpod-Worker-Id names did not become ready in time.", "worker_timeout")


@dataclass(frozen=True)
class RequestedWorker:
    """The pod that a request asks for. The name "" means any pod; with `strict`, a pod that cannot exist."""

    name: str = ""
    strict: bool = False


ANY_WORKER = RequestedWorker()


def read_worker(head: Head) -> RequestedWorker:
    """Read the pod that a request asks for. A value that is not in RunPod's form asks for any pod. If it is strict, it
    asks for a pod that cannot exist."""
    value = head.get(WORKER_ID)
    match = _WORKER_ID_FORM.fullmatch(value)
    if not match:
        return RequestedWorker(strict=value.startswith(("strict ", "strict-resume ")))
    return RequestedWorker(match[2], strict=bool(match[1]))
