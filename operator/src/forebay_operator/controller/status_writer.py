"""Writes what was decided about an endpoint: its status, when something is new, and an event for each transition."""

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
"""Seconds before a start is first told of. The pods are made meanwhile, so one write tells what would take two."""


@dataclass(frozen=True)
class _Written:
    """The status that was written last, while the cache may not have it yet."""

    uid: str
    version: int
    status: Manifest


class StatusWriter:
    """Writes statuses. `again` is called with a key and seconds after which it should be reconciled again. `clock`
    returns monotonic seconds."""

    def __init__(
        self,
        cluster: Cluster,
        events: EventRecorder,
        again: Callable[[EndpointKey, float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self.events = events
        self.again = again
        self._rate_limiter: RateLimiter[EndpointKey] = RateLimiter()
        self._written: dict[EndpointKey, _Written] = {}

    def status_before(self, manifest: Manifest) -> Manifest:
        """The status that the endpoint has: the one written last where the manifest, from a cache, is older than that.

        From an older one transition times would move again, and what was said before would be said again.
        """
        key, metadata = key_of_endpoint(manifest), manifest["metadata"]
        written = self._written.get(key)
        if written and written.uid == metadata["uid"] and _version(manifest) < written.version:
            return written.status
        self._written.pop(key, None)
        status: Manifest = manifest.get("status") or {}
        return status

    async def write(self, manifest: Manifest, before: Manifest, status: Manifest) -> None:
        """Write the status unless it is what it was before. Mere progress, and that a start begins, wait until due.

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
                self.again(key, wait)
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
        """The endpoint is gone."""
        self._written.pop(key, None)
        self._rate_limiter.forget(key)


def _version(manifest: Manifest) -> int:
    """The resource version as a number that grows with every write, which Kubernetes promises since 1.35 and all API
    servers on etcd have kept before; 0 when it is none."""
    version = str(manifest["metadata"].get("resourceVersion", ""))
    return int(version) if version.isdigit() else 0
