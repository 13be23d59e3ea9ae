"""Keeps the job counts for the status of each endpoint, from the gateways' reports. Changes are throttled. Pure."""

from collections.abc import Mapping, Sequence

from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.pods.load import GatewayLoad

JOB_COUNT_INTERVAL = 10.0
"""Seconds between two changes of one endpoint's counts, because each causes a write of its status."""


class JobCounts:
    """The counts that were reported last, by endpoint: queued jobs and running jobs."""

    def __init__(self) -> None:
        self._last_reported: dict[EndpointKey, tuple[int, int]] = {}
        self._at: dict[EndpointKey, float] = {}

    def of(self, key: EndpointKey) -> tuple[int, int]:
        """The number of queued jobs and of running jobs of an endpoint."""
        return self._last_reported.get(key, (0, 0))

    def update(self, reports: Sequence[Mapping[EndpointKey, GatewayLoad] | None], now: float) -> list[EndpointKey]:
        """Update the counts from the gateways' reports. Returns the endpoints whose counts have changed.

        While no gateway answers, the counts stay. Every gateway knows all jobs, but reports may differ in age. The
        highest count is used.
        """
        answered = [held for held in reports if held is not None]
        if not answered:
            return []
        counts: dict[EndpointKey, tuple[int, int]] = {}
        for held in answered:
            for key, one in held.items():
                counts[key] = max(counts.get(key, (0, 0)), one.jobs)
        changed = []
        for key in {*counts, *self._last_reported}:
            jobs = counts.get(key, (0, 0))
            if jobs != self.of(key) and now - self._at.get(key, now - JOB_COUNT_INTERVAL) >= JOB_COUNT_INTERVAL:
                self._last_reported[key], self._at[key] = jobs, now
                changed.append(key)
        for key in [
            key
            for key, jobs in self._last_reported.items()
            if jobs == (0, 0) and now - self._at[key] >= JOB_COUNT_INTERVAL
        ]:
            del self._last_reported[key], self._at[key]
        return changed
