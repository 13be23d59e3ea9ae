"""What takes jobs ends in order."""

import argparse
import asyncio

import pytest

from forebay_gateway.balance import Balancer
from forebay_gateway.directory import Directory
from forebay_gateway.hold import Holds
from forebay_gateway.jobs.api import JobsApi
from forebay_gateway.keep import keep_jobs
from forebay_gateway.keys import Keys
from forebay_gateway.names import Key
from forebay_gateway.pacing import Pace
from forebay_gateway.settings import Limits
from forebay_gateway.shares import Shares


async def test_an_endpoint_that_goes_at_the_end_leaves_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def forget(_: JobsApi, key: Key) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def wake(key: Key) -> None: ...

    async def find(key: Key) -> None: ...

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
