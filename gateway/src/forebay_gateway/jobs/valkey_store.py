"""The job store in Valkey, or Redis from 7.0 on, for any number of gateways. Each step is one atomic run of jobs.lua.

A gateway sends a heartbeat every second for the jobs that it has claimed. Every gateway also reaps stalled jobs every
second: it queues jobs again whose claim had no heartbeat for CLAIM_LEASE. So a job of a dead gateway runs again within
this time and two seconds, and another gateway delivers its webhook.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import resources

from redis import asyncio as valkey

from forebay_gateway.endpoints.backlog import Backlog
from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.fairness.quotas import UNCOUNTED_BYTES, memory_of
from forebay_gateway.jobs.job import JOB_OVERHEAD, Job, State
from forebay_gateway.jobs.key_cipher import KeyCipher
from forebay_gateway.jobs.scripts import Scripts, is_away
from forebay_gateway.jobs.store import (
    ATTEMPTS,
    Counts,
    Delivery,
    Full,
    JobStore,
    Lost,
    StreamedItems,
    Unavailable,
)
from forebay_gateway.jobs.submission import Submission
from forebay_gateway.metrics import REQUEUED, WEBHOOKS
from forebay_kube.endpoint_key import EndpointKey, format_key, parse_key

logger = logging.getLogger(__name__)

CLAIM_LEASE = 10.0
"""Seconds after which a claim without a heartbeat expires."""

HEARTBEAT_INTERVAL = 1.0
"""Seconds between renewals of the claims, and between searches for stalled jobs."""

HEARTBEAT_BATCH = 1000
"""Claims in one step. A Lua function takes up to 8,000 arguments."""

CHANNEL = "forebay:told"

SCRIPT_FILES = ("jobs.lua", "webhooks.lua")
"""The files of one script. The later ones have further steps."""

RUN_STEP = "return steps[ARGV[1]](unpack(ARGV, 2))"


class ValkeyJobStore(JobStore):
    """A job store in Valkey. Use it as an async context manager.

    `max_bytes` bounds the bytes of all jobs of all gateways. `share` is a namespace's part of it (quotas.Quota).
    """

    location = "in Valkey, for all gateways"

    def __init__(self, client: valkey.Redis, cipher: KeyCipher, max_bytes: int, share: float = 0.5) -> None:
        super().__init__()
        self._client = client
        self._cipher = cipher
        files = [resources.files(__package__).joinpath(name).read_text() for name in SCRIPT_FILES]
        self._scripts = Scripts(client, "\n".join([*files, RUN_STEP]))
        self._place = max_bytes, share
        self._claims: dict[str, str] = {}
        self._backlog: Mapping[EndpointKey, Backlog] = {}

    async def __aenter__(self) -> "ValkeyJobStore":
        loops = (self._heartbeat, HEARTBEAT_INTERVAL), (self._reap_stalled, HEARTBEAT_INTERVAL), (self._listen, 0.0)
        self._tasks = [asyncio.create_task(self._repeat(work, pause)) for work, pause in loops]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._scripts.wait_until_idle()
        await self._client.aclose()

    @property
    def max_input_bytes(self) -> int:
        max_bytes, share = self._place
        return int(max_bytes * share) - JOB_OVERHEAD

    @property
    def trouble(self) -> str:
        return self._scripts.trouble  # reaping calls Valkey every second

    async def submit(self, key: EndpointKey, job_id: str, submission: Submission, api_key: str) -> None:
        size = JOB_OVERHEAD + memory_of(submission.input) + memory_of(submission.webhook)
        fields: dict[str, str | float] = {
            "endpoint": format_key(key),
            "timeout": submission.timeout,
            "ttl": round(submission.ttl * 1000),
            "kept": round(submission.retention * 1000),
            "low": int(submission.low),
            "webhook": submission.webhook,
            "api_key": self._cipher.encrypt(api_key, _owner(key, job_id)),
            "bytes": size,
        }
        flat = [each for field in fields.items() for each in field]
        if not await self._scripts.run("submit", job_id, *self._place, submission.input, *flat, growing=True):
            raise Full
        self.queued.notify(key)

    async def find(self, key: EndpointKey, job_id: str, max_bytes: int = UNCOUNTED_BYTES) -> Job | None:
        answer = await self._scripts.run("find", job_id, format_key(key), max_bytes)
        return self._job(*answer) if answer else None

    async def take_stream(self, key: EndpointKey, job_id: str, max_bytes: int) -> StreamedItems | None:
        answer = await self._scripts.run("take_stream", job_id, format_key(key), max_bytes, uuid.uuid4().hex)
        return StreamedItems(State(answer[0]), bool(answer[1]), *answer[2:]) if answer else None

    async def counts(self, key: EndpointKey) -> Counts:
        return Counts(*map(int, await self._scripts.run("counts", format_key(key))))

    def backlog(self) -> Mapping[EndpointKey, Backlog]:
        return self._backlog

    async def claim(self, key: EndpointKey, pods: Sequence[Address], at_once: int) -> tuple[Job | None, int]:
        token = uuid.uuid4().hex
        left, *claimed = await self._scripts.run(
            "claim", format_key(key), token, at_once, *(f"{pod.host} {pod.port} {pod.name}" for pod in pods)
        )
        if not claimed:
            return None, int(left)
        job_id, fields, given = claimed
        self._claims[job_id] = token
        return self._job(job_id, fields, given=given), int(left)

    async def release(self, job: Job) -> None:
        self._drop_claim(job.id, job.token)

    async def requeue(self, job: Job, *, blamed: bool) -> None:
        await self._scripts.run("requeue", job.id, job.token, int(blamed))
        self._drop_claim(job.id, job.token)

    async def add_output(self, job: Job, items: Sequence[str]) -> None:
        self._check(job, await self._scripts.run("add_output", job.id, job.token, *self._place, job.stored, *items))
        job.stored += len(items)

    async def finish(self, job: Job, state: State, error: str = "", items: Sequence[str] = ()) -> None:
        done = await self._scripts.run("finish", job.id, job.token, state, error, *self._place, job.stored, *items)
        self._check(job, done)
        self._drop_claim(job.id, job.token)
        job.state, job.error, job.finished = state, error, done / 1000
        self._notify_finished(job)

    async def cancel(self, key: EndpointKey, job_id: str) -> Job | None:
        ended = await self._scripts.run("cancel", job_id, format_key(key))
        job = await self.find(key, job_id) if ended is not None else None
        if ended and job:
            self._notify_finished(job)
        return job

    async def retry(self, key: EndpointKey, job_id: str, api_key: str) -> State | None:
        encrypted, call_id = self._cipher.encrypt(api_key, _owner(key, job_id)), uuid.uuid4().hex
        state = await self._scripts.run("retry", job_id, format_key(key), encrypted, call_id, growing=True)
        self.queued.notify(key)
        return State(state) if state else None

    async def purge(self, key: EndpointKey) -> int:
        count = 0
        for queue in ("again", "normal", "low"):
            after = "-"
            while after:
                after, ended = await self._scripts.run("purge", format_key(key), queue, after)
                self._notify_ended(ended)
                count += len(ended)
        return count

    async def forget(self, key: EndpointKey) -> None:
        more = True
        while more:
            more, ended = await self._scripts.run("forget", format_key(key))
            self._notify_ended(ended)

    async def expire(self, key: EndpointKey, job_id: str, seconds: float) -> None:
        await self._scripts.run("expire", job_id, format_key(key), round(seconds * 1000))

    async def claim_delivery(self, key: EndpointKey) -> tuple[Delivery | None, int]:
        token = uuid.uuid4().hex
        lease = round(CLAIM_LEASE * 1000)
        left, *claimed = await self._scripts.run("claim_delivery", format_key(key), token, lease, UNCOUNTED_BYTES)
        if not claimed:
            return None, int(left)
        tries, described = claimed
        job = self._job(*described)
        self._claims[job.id] = token
        return Delivery(job, int(tries), token), int(left)

    async def read_delivery(self, delivery: Delivery) -> Job | None:
        job = delivery.job
        described = await self._scripts.run("read_delivery", job.id, delivery.token, job.omitted_bytes)
        return self._job(*described) if described else None

    async def postpone_delivery(self, delivery: Delivery, seconds: float, *, tried: bool) -> None:
        after = round(seconds * 1000)
        await self._scripts.run("postpone_delivery", delivery.job.id, delivery.token, after, int(tried))
        self._drop_claim(delivery.job.id, delivery.token)

    async def end_delivery(self, delivery: Delivery) -> None:
        await self._scripts.run("end_delivery", delivery.job.id, delivery.token)
        self._drop_claim(delivery.job.id, delivery.token)

    async def _heartbeat(self) -> None:
        """Renew all claims of this gateway."""
        claims = list(self._claims.items())
        for first in range(0, len(claims), HEARTBEAT_BATCH):
            await self._renew_claims(claims[first : first + HEARTBEAT_BATCH])

    async def _renew_claims(self, claims: Sequence[tuple[str, str]]) -> None:
        """Renew these claims, and notify of those that this gateway has lost."""
        tokens = dict(claims)
        flat = [each for claim in claims for each in claim]
        for job_id in await self._scripts.run("renew_claims", round(CLAIM_LEASE * 1000), *flat):
            if self._claims.get(job_id) == tokens[job_id]:
                del self._claims[job_id]
            self.claim_lost.notify(job_id, tokens[job_id])

    async def _reap_stalled(self) -> None:
        lease = round(CLAIM_LEASE * 1000)
        counts, ended, requeued, due, undelivered = await self._scripts.run("reap_stalled", lease, ATTEMPTS)
        backlog: dict[EndpointKey, Backlog] = {}
        for field, flat in zip(("queued", "waiting", "running"), counts, strict=True):
            for name, count in zip(flat[::2], flat[1::2], strict=True):
                setattr(backlog.setdefault(parse_key(name), Backlog()), field, int(count))
        self._backlog = backlog
        self._notify_ended(ended)
        if requeued:
            REQUEUED.labels("gateway").inc(requeued)
            logger.warning("requeued %d jobs of gateways that stopped renewing their claims", requeued)
        if undelivered:
            WEBHOOKS.labels("failed").inc(undelivered)
            logger.warning("%d webhooks were not delivered before they expired", undelivered)
        for key, jobs in backlog.items():
            if jobs.queued:
                self.queued.notify(key)
        for name in due:
            self.deliverable.notify(parse_key(name))

    async def _listen(self) -> None:
        """Pass on the messages of other gateways until the connection ends.

        Messages may have been missed before, so all watchers are notified at the beginning.
        """
        async with self._client.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(CHANNEL)
            for job_id in list(self._watchers):
                self._notify_watchers(job_id)
            while True:
                message = await channel.get_message(timeout=HEARTBEAT_INTERVAL)
                if message:
                    event, _, subject = message["data"].partition(" ")
                    if event == "queued":
                        self.queued.notify(parse_key(subject))
                    else:
                        self._notify_watchers(subject)
                    if event == "ended" and subject in self._claims:
                        await self._renew_claims([(subject, self._claims[subject])])

    async def _repeat(self, work: Callable[[], Awaitable[None]], pause: float) -> None:
        """Call `work` in a loop, with `pause` seconds between two calls."""
        while True:
            try:
                await work()
                await asyncio.sleep(pause)
            except Unavailable:
                continue
            except Exception as error:
                if not is_away(error):
                    logger.exception("the queue's %s failed", work.__name__)
                await asyncio.sleep(HEARTBEAT_INTERVAL)

    def _check(self, job: Job, done: int) -> None:
        if done < 0:
            raise Full
        if not done:
            self._drop_claim(job.id, job.token)
            raise Lost

    def _drop_claim(self, job_id: str, token: str) -> None:
        if self._claims.get(job_id) == token:
            del self._claims[job_id]

    def _notify_ended(self, ended: Sequence[tuple[str, list[str]]]) -> None:
        for job_id, fields in ended:
            self._notify_finished(self._job(job_id, fields))

    def _job(
        self, job_id: str, fields: list[str], output: Sequence[str] = (), omitted_bytes: int = 0, *, given: str = ""
    ) -> Job:
        """Build a job from the fields that jobs.lua returns."""
        known = dict(zip(fields[::2], fields[1::2], strict=True))
        submission = Submission(
            input=given,
            timeout=float(known["timeout"]),
            ttl=int(known["ttl"]) / 1000,
            retention=int(known["kept"]) / 1000,
            low=known["low"] == "1",
            webhook=known["webhook"],
        )
        host, _, port = known.get("pod", "").partition(" ")
        return Job(
            job_id,
            parse_key(known["endpoint"]),
            submission,
            api_key=self._cipher.decrypt(known["api_key"], _owner(parse_key(known["endpoint"]), job_id))
            if given
            else "",
            created=int(known["created"]) / 1000,
            started=int(known["started"]) / 1000 if "started" in known else None,
            finished=int(known["finished"]) / 1000 if "finished" in known else None,
            state=State(known["state"]),
            output=list(output),
            omitted_bytes=omitted_bytes,
            error=known.get("error", ""),
            attempts=int(known["attempts"]),
            pod=Address(host, int(port), known.get("worker", "")) if port else None,
            token=known.get("token", ""),
        )


def _owner(key: EndpointKey, job_id: str) -> str:
    """The name of a job for KeyCipher, as the owner of the API key that the store keeps."""
    return f"job {format_key(key)} {job_id}"
