"""Records events of endpoints, as `kubectl describe` shows them: one object for each reason, with a count.

The status writer and the autoscaler call it. Events are written in the background at a limited rate, and dropped above
it. A failure never fails a reconcile.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from forebay_kube import names
from forebay_kube.endpoint_key import EndpointKey
from forebay_operator import labels
from forebay_operator.spec import Manifest
from forebay_operator.status.readiness import STATES

logger = logging.getLogger(__name__)

EVENTS_PER_SECOND = 20.0
"""Events that are written per second, for all endpoints."""

MAX_WAITING = 256
"""Events that may wait to be written. Further ones are dropped."""

MAX_REMEMBERED = 4096
"""Written events whose count is remembered. An older event that repeats becomes a new object."""

MAX_EVENT_MESSAGE = 1024
"""Bytes of an event's message that the API server accepts. A condition's message may be longer."""

Id = tuple[str, str]
"""The uid of an endpoint and a reason."""


@dataclass(frozen=True)
class Event:
    """Something that happened to an endpoint, `count` times."""

    namespace: str
    endpoint: str
    uid: str
    reason: str
    message: str
    warning: bool
    first: datetime
    last: datetime
    count: int = 1

    @property
    def id(self) -> Id:
        """An ID that is the same for each repetition of an event: the UID of the endpoint, and the reason."""
        return self.uid, self.reason

    @property
    def name(self) -> str:
        """The name of the object, as client-go forms it: the endpoint and the time of the first event in hex."""
        return f"{self.endpoint}.{int(self.first.timestamp() * 1e9):x}"

    def build(self) -> Manifest:
        """Build the object."""
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "involvedObject": {
                "apiVersion": f"{names.GROUP}/{names.VERSION}",
                "kind": names.KIND,
                "namespace": self.namespace,
                "name": self.endpoint,
                "uid": self.uid,
            },
            "source": {"component": labels.FIELD_MANAGER},
            "reportingComponent": f"{names.GROUP}/operator",
            "reason": self.reason,
            "type": "Warning" if self.warning else "Normal",
            "firstTimestamp": _stamp(self.first),
            **self.build_patch(),
        }

    def build_patch(self) -> Manifest:
        """Build the patch for an event that repeats."""
        return {"message": _cut(self.message), "lastTimestamp": _stamp(self.last), "count": self.count}


Write = Callable[[Manifest, Manifest | None], Awaitable[bool]]
"""Creates an object, or applies a patch if one is given. Returns False if there is no object to patch."""


class EventRecorder:
    """Takes events at any time and writes them one after the other. For one event loop."""

    def __init__(self, write: Write, rate: float = EVENTS_PER_SECOND) -> None:
        self._write = write
        self._gap = 1.0 / rate
        self._written: OrderedDict[Id, Event] = OrderedDict()
        self._waiting: OrderedDict[Id, Event] = OrderedDict()
        self._news = asyncio.Event()

    def record(self, key: EndpointKey, uid: str, reason: str, message: str, warning: bool) -> None:
        """Record an event of an endpoint."""
        now = datetime.now(UTC)
        event = Event(*key, uid, reason, message, warning, first=now, last=now)
        before = self._waiting.get(event.id) or self._written.get(event.id)
        if before is None and len(self._waiting) >= MAX_WAITING:
            logger.debug("too many events: %s of endpoint %s/%s", reason, event.namespace, event.endpoint)
            return
        if before:
            event = replace(event, first=before.first, count=before.count + 1)
        self._waiting[event.id] = event
        self._news.set()

    def record_transition(self, key: EndpointKey, uid: str, ready: Manifest) -> None:
        """Record a transition of the Ready condition of an endpoint."""
        reason = str(ready["reason"])
        warning = reason not in STATES or reason in ("Degraded", "NotAnswering")
        self.record(key, uid, reason, str(ready["message"]), warning)

    @property
    def waiting(self) -> int:
        """The number of events that are not written yet."""
        return len(self._waiting)

    async def run(self) -> None:
        """Write the recorded events, forever."""
        while True:
            await self._news.wait()
            while self._waiting:
                _, event = self._waiting.popitem(last=False)
                await self._write_event(event)
                await asyncio.sleep(self._gap)
            self._news.clear()

    async def _write_event(self, event: Event) -> None:
        try:
            patch = event.build_patch() if event.count > 1 else None
            if not await self._write(event.build(), patch):
                # the API server deletes events after an hour, so the count begins again
                event = replace(event, first=event.last, count=1)
                await self._write(event.build(), None)
        except Exception as error:  # noqa: BLE001  an event that cannot be written is no reason to stop
            logger.info("event %s of endpoint %s/%s: %s", event.reason, event.namespace, event.endpoint, error)
            return
        self._written[event.id] = event
        self._written.move_to_end(event.id)
        while len(self._written) > MAX_REMEMBERED:
            self._written.popitem(last=False)


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _cut(message: str) -> str:
    encoded = message.encode()
    return (
        message if len(encoded) <= MAX_EVENT_MESSAGE else encoded[: MAX_EVENT_MESSAGE - 3].decode(errors="ignore") + "…"
    )
