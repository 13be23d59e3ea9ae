"""What takes jobs ends in order."""

import argparse
import asyncio

import pytest

from forebay_gateway.activator.pending_requests import Holds
from forebay_gateway.endpoints.balancer import Balancer
from forebay_gateway.endpoints.directory import Directory
from forebay_gateway.endpoints.key_authorizer import Keys
from forebay_gateway.fairness.pacing import Pace
from forebay_gateway.fairness.quotas import Shares
from forebay_gateway.job_services import keep_jobs
from forebay_gateway.jobs.http_api import JobsApi
from forebay_gateway.settings import Limits
from forebay_kube.endpoint_key import EndpointKey


async def test_an_endpoint_that_goes_at_the_end_leaves_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def forget(_: JobsApi, key: EndpointKey) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def wake(key: EndpointKey) -> None: ...

    async def find(key: EndpointKey) -> None: ...

    monkeypatch.setattr(JobsApi, "forget", forget)
    limits, directory, balancer = Limits(), Directory("team"), Balancer()
    parsed = argparse.Namespace(jobs_bytes=1, files_bytes=1, namespace_share=1.0, webhook_networks=[])
    holds = Holds(directory, balancer, wake, find, limits)  # type: ignore[arg-type]
    answers = Shares(1)
    async with keep_jobs(
        parsed,
        None,
        keys=Keys(),
        directory=directory,
        balancer=balancer,
        holds=holds,
        answers=answers,
        pace=Pace(),
    ):
        directory.dropped(("team", "one"))
        await begun.wait()
    assert ended.is_set()
