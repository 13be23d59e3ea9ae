"""What takes jobs ends in order."""

import asyncio

import pytest

from forebay_gateway.__main__ import build_parser
from forebay_gateway.activator.pending_requests import Activator
from forebay_gateway.endpoints.balancer import Balancer
from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.key_authorizer import KeyAuthorizer
from forebay_gateway.fairness.pacing import FairScheduler
from forebay_gateway.fairness.quotas import Quota
from forebay_gateway.job_services import open_job_services
from forebay_gateway.jobs.http_api import JobApi
from forebay_gateway.settings import Limits
from forebay_kube.endpoint_key import EndpointKey


async def test_an_endpoint_that_goes_at_the_end_leaves_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
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
