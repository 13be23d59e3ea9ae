"""The pod that a client asks for, as with RunPod's load balancer (docs.runpod.io/serverless/load-balancing).

An answer names its pod in X-Runpod-Worker-Id. A request with this value prefers that pod; with `strict ` or
`strict-resume ` before it no other pod will do.
"""

import re
from dataclasses import dataclass

from forebay_gateway.http.messages import WORKER_ID, Head
from forebay_protocol.errors import ApiError

_ASKED = re.compile(r"(strict(?:-resume)? )?([-.a-z0-9]{0,253})")

GONE = ApiError(404, "The pod that X-Runpod-Worker-Id names does not exist (any more).", "affinity_worker_gone")
LATE = ApiError(400, "The pod that X-Runpod-Worker-Id names did not become ready in time.", "worker_timeout")


@dataclass(frozen=True)
class AskedWorker:
    """The pod that a request asks for by its name; "" for any, or for one that cannot be there."""

    name: str = ""
    strict: bool = False


ANY_WORKER = AskedWorker()


def read_worker(head: Head) -> AskedWorker:
    """What a request asks for. A value that is none of RunPod's forms asks for nothing, or for a pod
    that cannot be there."""
    value = head.get(WORKER_ID)
    asked = _ASKED.fullmatch(value)
    if not asked:
        return AskedWorker(strict=value.startswith(("strict ", "strict-resume ")))
    return AskedWorker(asked[2], strict=bool(asked[1]))
