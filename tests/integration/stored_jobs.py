"""Jobs in a store that tests call directly."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from forebay_gateway.endpoints.endpoint import Address
from forebay_gateway.jobs.job import Job, State
from forebay_gateway.jobs.key_cipher import KeyCipher
from forebay_gateway.jobs.scripts import connect_valkey
from forebay_gateway.jobs.store import Delivery, JobStore
from forebay_gateway.jobs.submission import read_submission
from forebay_gateway.jobs.valkey_store import ValkeyJobStore
from tests.integration.valkey_process import ValkeyServer

KEY = ("home", "one")


POD, OTHER = Address("10.0.0.1", 8000), Address("10.0.0.2", 8000)


JOB_STORE_BYTES = 100_000

WEBHOOK = {"webhook": "http://127.0.0.1/webhook"}


def opened(server: ValkeyServer, most: int = JOB_STORE_BYTES) -> ValkeyJobStore:
    return ValkeyJobStore(connect_valkey(server.url), KeyCipher(lambda: b"secret"), most, share=1.0)


async def submit(store: JobStore, job_id: str = "a", **content: Any) -> None:
    body = json.dumps({"input": {"prompt": "Hi"}, **content}).encode()
    await store.submit(KEY, job_id, read_submission(body, sync=False), "the key")


async def claim(store: JobStore, at_once: int = 9) -> Job:
    job, _ = await store.claim(KEY, [POD], at_once)
    assert job
    return job


async def claim_delivery(store: JobStore) -> Delivery:
    delivery, _ = await store.claim_delivery(KEY)
    assert delivery
    return delivery


async def state(store: JobStore, job_id: str = "a") -> State | None:
    job = await store.find(KEY, job_id)
    return job.state if job else None


async def is_(store: JobStore, job_id: str, expected: State | None) -> bool:
    return await state(store, job_id) is expected


async def becomes(reached: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(20):
        while True:
            if await reached():
                return
            await asyncio.sleep(0.02)
