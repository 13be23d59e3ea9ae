"""Writes the status of an endpoint when it has changed, and records an event for each transition of Ready.

The reconciler calls it. Mere progress is throttled (rate_limiter.py).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from forebay_kube.endpoint_key import EndpointKey, key_of_endpoint
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.apiserver.event_recorder import EventRecorder
from forebay_operator.controller.rate_limiter import RateLimiter
from forebay_operator.spec import Manifest
from forebay_operator.status.conditions import find_transition, is_beginning, is_mere_progress

FIRST_STATUS_DELAY = 1.0
"""Seconds before the first status of a start is written. The pods are created in this time, so one write suffices."""


@dataclass(frozen=True)
class _Written:
    """The status that was written last. The cache can lack it for some time."""

    uid: str
    version: int
    status: Manifest


class StatusWriter:
    """Writes statuses.

    Args:
        requeue_after: is called with a key and the seconds after which the endpoint is to be reconciled again.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        events: EventRecorder,
        requeue_after: Callable[[EndpointKey, float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self.events = events
        self.requeue_after = requeue_after
        self._rate_limiter: RateLimiter[EndpointKey] = RateLimiter()
        self._written: dict[EndpointKey, _Written] = {}

    def status_before(self, manifest: Manifest) -> Manifest:
        """The current status of an endpoint: the status in the manifest, or the status that was written last if the
        cache lags.

        With an older status, transition times would change again, and events would be recorded twice.
        """
        key, metadata = key_of_endpoint(manifest), manifest["metadata"]
        written = self._written.get(key)
        if written and written.uid == metadata["uid"] and _version(manifest) < written.version:
            return written.status
        self._written.pop(key, None)
        status: Manifest = manifest.get("status") or {}
        return status

    async def write(self, manifest: Manifest, before: Manifest, status: Manifest) -> None:
        """Write the status unless it equals `before`.

        A status that changes only the progress, or begins a start, waits until its write is due.

        Raises:
            ApiServerError: the API server refused or did not answer.
        """
        if status == before:
            return
        key, now = key_of_endpoint(manifest), self._clock()
        beginning = is_beginning(before, status)
        if beginning or is_mere_progress(before, status):
            wait = self._rate_limiter.wait(key, now, FIRST_STATUS_DELAY if beginning else 0.0)
            if wait:
                self.requeue_after(key, wait)
                return
        metadata = manifest["metadata"]
        live = await self._cluster.apply_status(metadata["namespace"], metadata["name"], metadata["uid"], status)
        self._rate_limiter.wrote(key, now)
        if live is None:
            return
        self._written[key] = _Written(metadata["uid"], _version(live), status)
        if ready := find_transition(before, status):
            self.events.record_transition(key, metadata["uid"], ready)

    def forget(self, key: EndpointKey) -> None:
        """Drop the state of a deleted endpoint."""
        self._written.pop(key, None)
        self._rate_limiter.forget(key)


def _version(manifest: Manifest) -> int:
    """The resource version as a number, or 0 if it is not a number.

    The resource version grows with every write. Kubernetes promises this since 1.35, and all API servers on etcd did so
    before.
    """
    version = str(manifest["metadata"].get("resourceVersion", ""))
    return int(version) if version.isdigit() else 0
