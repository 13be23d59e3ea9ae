"""Job services shut down in order."""

import asyncio
import re

import pytest

from forebay_gateway.__main__ import build_parser
from forebay_gateway.activator.pending_requests import Activator
from forebay_gateway.batches import bucket
from forebay_gateway.endpoints.balancer import Balancer
from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.key_authorizer import KeyAuthorizer
from forebay_gateway.fairness.quotas import Quota
from forebay_gateway.fairness.scheduler import FairScheduler
from forebay_gateway.job_services import open_bucket, open_job_services
from forebay_gateway.jobs.http_api import JobApi
from forebay_gateway.jobs.store import Unavailable
from forebay_gateway.settings import Limits
from forebay_kube.endpoint_key import EndpointKey
from tests.unit.gateway.pending import SECRET, encoded, made


async def test_an_endpoint_removed_during_shutdown_leaves_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def forget(_: JobApi, key: EndpointKey) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def wake(key: EndpointKey) -> None: ...

    async def find(key: EndpointKey) -> None: ...

    monkeypatch.setattr(JobApi, "forget", forget)
    limits, directory, balancer = Limits(), Directory("team"), Balancer()
    parsed = build_parser().parse_args(["--jobs-bytes=1", "--files-bytes=1", "--namespace-share=1"])
    activator = Activator(directory, balancer, wake=wake, find_ready=find, backlog=dict, limits=limits)  # type: ignore[arg-type]
    answers = Quota(1)
    async with open_job_services(
        parsed,
        None,
        keys=KeyAuthorizer(),
        directory=directory,
        balancer=balancer,
        activator=activator,
        answers=answers,
        scheduler=FairScheduler(),
    ):
        directory.endpoint_removed.notify(("team", "one"))
        await begun.wait()
    assert ended.is_set()


class RecordedStore:
    """A fake bucket that records its prefix."""

    def __init__(self, _: str, *, prefix: str, **__: object) -> None:
        self.prefix = prefix


async def test_a_gateway_that_starts_before_its_secret_uses_the_shared_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[str] = []

    async def put(store: RecordedStore, name: str, *_: object, **__: object) -> None:
        written.append(f"{store.prefix}/{name}")

    monkeypatch.setattr(bucket, "S3Store", RecordedStore)
    monkeypatch.setattr("obstore.put_async", put)
    parsed = build_parser().parse_args(["--files-bucket=files", "--files-prefix=some/"])
    early, late = KeyAuthorizer(), made()
    first, second = open_bucket(parsed, early.secret), open_bucket(parsed, late.secret)
    assert first
    assert second
    with pytest.raises(Unavailable):
        await first.put("a", b"")
    with pytest.raises(Unavailable):
        await anext(aiter(first.objects("files")))
    early.put_secret("forebay-gateway", {"digest-key": encoded(SECRET)})
    await first.put("a", b"")
    await second.put("a", b"")
    assert len(set(written)) == 1
    assert re.fullmatch("some/[0-9a-f]{16}/a", written[0])
