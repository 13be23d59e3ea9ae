"""Scales endpoints with their load: reads the loads of pods and gateways, and writes the replicas through /scale.

policy.py decides. A round checks all endpoints, except those at zero for which no gateway holds a request. A pod that
does not answer counts as busy.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakValueDictionary

import aiohttp

from forebay_kube.api_client import ApiServerError
from forebay_kube.endpoint_key import EndpointKey
from forebay_operator.apiserver.cluster import Cluster
from forebay_operator.autoscaling import History, Policy, Sample, build_policy, decide
from forebay_operator.autoscaling.job_counts import JobCounts
from forebay_operator.labels import control_secret_name
from forebay_operator.pods.client import get_text, post_order
from forebay_operator.pods.gateways import Gateways
from forebay_operator.pods.load import GatewayLoad, PodLoad, parse_load
from forebay_operator.resources.secret import read_control_token
from forebay_operator.spec import Endpoint
from forebay_operator.status.observed import Observed, has_loaded
from forebay_protocol.pod import OPS_PORT

logger = logging.getLogger(__name__)

SCALING_INTERVAL = 2.0
"""Seconds from one round to the next. bench.scaling uses the same interval."""

LOAD_TIMEOUT = 1.0
"""Seconds for an answer. Pods and gateways answer from memory."""

QUIET_SECONDS = 8
"""Grace period in seconds before an engine sleeps. In this time Kubernetes notices that the pod is not ready (its probe
fails twice, every 2 s) and removes it from its Service."""

CONCURRENT_LOAD_READS, CONCURRENT_LOAD_READS_OF_NAMESPACE = 128, 8
"""The most concurrent reads of loads, in total and for the pods of one namespace. So unresponsive pods do not block
others."""

MAX_METRICS_BYTES = 512 << 10
"""Bytes of a server's metrics that are read."""

RecordEvent = Callable[[EndpointKey, str, str, str, bool], None]
"""See EventRecorder.record."""


@dataclass(frozen=True)
class ScaledEndpoint:
    """An endpoint with spec.scaling.

    Attributes:
        replicas: its spec.replicas.
        pods: its ready pods, name -> address.
        sleeps: whether its last replica sleeps instead of ending.
        stopped: pods that have loaded and are not ready, name -> address. Their engines can be asleep. Only if
            `sleeps` is set.
    """

    uid: str
    policy: Policy
    replicas: int
    pods: Mapping[str, str]
    sleeps: bool = False
    stopped: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Followed:
    scaled: ScaledEndpoint
    history: History = field(default_factory=lambda: History(0.0))
    asleep: bool | None = None
    """Whether its engines sleep or are about to; None before the first check."""


class Autoscaler:
    """Scales the endpoints that it follows, for one event loop.

    Args:
        gateways: None if there are none. Then no endpoint is scaled to zero.
        changed: is called with an endpoint that falls asleep or wakes up, or whose job counts have changed.
    """

    def __init__(
        self,
        cluster: Cluster,
        gateways: Gateways | None,
        record: RecordEvent,
        changed: Callable[[EndpointKey], None] = lambda _: None,
        port: int = OPS_PORT,
    ) -> None:
        self._cluster = cluster
        self._gateways = gateways
        self._record = record
        self._changed = changed
        self._port = port
        self._followed: dict[EndpointKey, _Followed] = {}
        self._jobs = JobCounts()
        self._limit = asyncio.Semaphore(CONCURRENT_LOAD_READS)
        self._limits: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._checking: set[EndpointKey] = set()
        self._scaling: set[EndpointKey] = set()

    def follow(self, key: EndpointKey, scaled: ScaledEndpoint | None) -> None:
        """Set the state of an endpoint, None if it does not scale. Repeated calls are cheap."""
        if scaled is None:
            self._followed.pop(key, None)
            return
        known = self._followed.get(key)
        if known and known.scaled.uid == scaled.uid:
            known.scaled = scaled
        else:
            known = self._followed[key] = _Followed(scaled)
        known.history.length = scaled.policy.scale_down_window + scaled.policy.scale_up_window

    def is_asleep(self, key: EndpointKey) -> bool | None:
        """Whether an endpoint's engines sleep or are about to; None before the first check."""
        known = self._followed.get(key)
        return known.asleep if known else None

    def jobs(self, key: EndpointKey) -> tuple[int, int]:
        """The number of queued jobs of an endpoint, and the number of its running jobs."""
        return self._jobs.of(key)

    async def run(self) -> None:
        """Check and scale the endpoints, forever. Samples from before the call are ignored."""
        for each in self._followed.values():
            each.history = History(each.history.length)
        self._scaling.clear()
        self._checking.clear()
        timeout = aiohttp.ClientTimeout(total=LOAD_TIMEOUT)
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session,
            asyncio.TaskGroup() as tasks,
        ):
            while True:
                began = time.monotonic()
                await self._check_all(session, tasks)
                await asyncio.sleep(max(0.0, began + SCALING_INTERVAL - time.monotonic()))

    async def _check_all(self, session: aiohttp.ClientSession, tasks: asyncio.TaskGroup) -> None:
        """Start a check of each endpoint whose last check has ended. No endpoint waits for another."""
        held = await self._gateways.read_held(session) if self._gateways else ()
        for key in self._jobs.update([loads for _, loads in held], time.monotonic()):
            self._changed(key)
        for key, each in list(self._followed.items()):
            if key in self._checking:
                continue
            own = [(gateway, None if loads is None else loads.get(key, GatewayLoad())) for gateway, loads in held]
            if each.scaled.replicas or each.scaled.policy.min_replicas or any(one and one.waits for _, one in own):
                self._checking.add(key)
                check = partial(self._check, session, tasks, key, each, own)
                tasks.create_task(self._finish_check(key, check))
            else:
                each.history.samples.clear()

    async def _finish_check(self, key: EndpointKey, check: Callable[[], Awaitable[None]]) -> None:
        """Run a check. A failure is logged and affects no other endpoint."""
        try:
            await check()
        except Exception:
            logger.exception("endpoint %s/%s: scaling failed", *key)
        finally:
            self._checking.discard(key)

    async def _check(
        self,
        session: aiohttp.ClientSession,
        tasks: asyncio.TaskGroup,
        key: EndpointKey,
        followed: _Followed,
        held: Sequence[tuple[str, GatewayLoad | None]],
    ) -> None:
        scaled = followed.scaled
        loads = await self._read_loads(session, key, scaled.pods)
        sample = followed.history.add(time.monotonic(), loads, held, len(scaled.pods))
        wanted = decide(scaled.policy, list(followed.history.samples), scaled.replicas)
        current = self._followed.get(key) is followed and followed.scaled.replicas == scaled.replicas
        if current and wanted != scaled.replicas and key not in self._scaling:
            # no endpoint waits for the API server's answer on another
            self._scaling.add(key)
            tasks.create_task(self._scale(key, scaled, wanted, loads, sample))
        elif current and scaled.sleeps:
            stopped = await self._read_loads(session, key, scaled.stopped)
            asleep = {name: scaled.stopped[name] for name, load in stopped.items() if load and load.asleep}
            idle = bool(scaled.pods) and scaled.replicas == 1 and sample.idle >= scaled.policy.idle_timeout
            waiting = any(one and one.waits for _, one in held)
            self._sleep_or_wake(tasks, key, followed, asleep=asleep, idle=idle, waiting=waiting)

    def _sleep_or_wake(
        self,
        tasks: asyncio.TaskGroup,
        key: EndpointKey,
        followed: _Followed,
        *,
        asleep: Mapping[str, str],
        idle: bool,
        waiting: bool,
    ) -> None:
        """Put idle engines to sleep, and wake them when a gateway holds a request.

        The reconciler is notified one round before, so that the gateways receive the requests before the engines sleep.
        """
        asleep_now = bool(asleep) and not followed.scaled.pods
        on_the_way = key in self._scaling and bool(followed.asleep)
        before, followed.asleep = followed.asleep, idle or asleep_now or on_the_way
        if before != followed.asleep:
            self._changed(key)
        elif idle and key not in self._scaling:
            self._scaling.add(key)
            tasks.create_task(self._order(key, followed.scaled.pods, f"/sleep?level=1&after={QUIET_SECONDS}"))
        elif waiting and asleep and key not in self._scaling:
            self._scaling.add(key)
            tasks.create_task(self._order(key, asleep, "/wake_up"))

    async def _order(self, key: EndpointKey, pods: Mapping[str, str], path: str) -> None:
        """Order the engines of pods to sleep or to wake."""
        try:
            logger.info("endpoint %s/%s: %s for %s", *key, path, ", ".join(pods))
            token = read_control_token(await self._cluster.get("Secret", key[0], control_secret_name(key[1])))
            await asyncio.gather(*(post_order(address, self._port, path, token) for address in pods.values()))
        except ApiServerError as error:
            logger.warning("endpoint %s/%s: %s: %s", *key, path, error)
        except Exception:  # the Secret may have any content; the other endpoints are still scaled
            logger.exception("endpoint %s/%s: %s failed", *key, path)
        finally:
            self._scaling.discard(key)

    async def _read_loads(
        self, session: aiohttp.ClientSession, key: EndpointKey, pods: Mapping[str, str]
    ) -> dict[str, PodLoad | None]:
        limit = self._limits.setdefault(key[0], asyncio.Semaphore(CONCURRENT_LOAD_READS_OF_NAMESPACE))

        async def read(address: str) -> PodLoad | None:
            async with limit, self._limit:  # LOAD_TIMEOUT begins after both
                text = await get_text(session, address, self._port, "/metrics", MAX_METRICS_BYTES)
                return parse_load(text) if text else None

        return dict(zip(pods, await asyncio.gather(*map(read, pods.values())), strict=True))

    async def _scale(
        self, key: EndpointKey, scaled: ScaledEndpoint, wanted: int, loads: Mapping[str, PodLoad | None], sample: Sample
    ) -> None:
        """Write the number of replicas, unless somebody has changed it since the last check. Mark the idlest pods for
        removal."""
        try:
            scale = await self._cluster.get_scale(*key)
            if scale is None or scale["spec"].get("replicas", 0) != scaled.replicas:
                return
            if 0 < wanted < scaled.replicas:
                for name, load in loads.items():
                    # a pod that does not answer may have any number of requests
                    await self._cluster.set_deletion_cost(key[0], name, load.total if load else 1_000_000)
            if not await self._cluster.scale(scale, wanted):
                return
        except ApiServerError as error:
            logger.warning("endpoint %s/%s could not be scaled: %s", *key, error)
            return
        except Exception:
            logger.exception("endpoint %s/%s could not be scaled", *key)
            return
        finally:
            self._scaling.discard(key)
        cause = f"{sample.load} requests run or wait" if sample.load else f"no request for {sample.idle:.0f} s"
        message = f"from {scaled.replicas} to {wanted} replicas: {cause}"
        logger.info("endpoint %s/%s: %s", *key, message)
        self._record(key, scaled.uid, "Scaled", message, False)


def find_scaled_endpoint(endpoint: Endpoint, observed: Observed) -> ScaledEndpoint | None:
    """The state of an endpoint for the autoscaler, or None if the user sets the number of replicas."""
    if endpoint.scaling is None or endpoint.suspend:
        return None
    pods = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in observed.ready if pod["status"].get("podIP")}
    if not endpoint.scaling.sleeps:
        return ScaledEndpoint(endpoint.uid, build_policy(endpoint.scaling), endpoint.replicas, pods)
    stopped = {
        pod["metadata"]["name"]: pod["status"]["podIP"]
        for pod in observed.active
        if has_loaded(pod) and pod["metadata"]["name"] not in pods and pod["status"].get("podIP")
    }
    return ScaledEndpoint(
        endpoint.uid, build_policy(endpoint.scaling), endpoint.replicas, pods, sleeps=True, stopped=stopped
    )
