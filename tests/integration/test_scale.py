"""The measurement of bench/scale with a few endpoints: its counts do not depend on the size."""

import asyncio
from collections import Counter
from pathlib import Path

from bench.scale.measures import writes
from bench.scale.plane import start_plane
from bench.scale.rounds import measure

COUNT = 20
UNCOUNTED = {"leases", "events"}
"""They depend on time."""


def test_an_endpoint_costs_few_requests_and_an_idle_operator_sends_no_request(tmp_path: Path) -> None:
    with start_plane(tmp_path, pods=3 * COUNT) as plane:
        found = asyncio.run(measure(plane, tmp_path, COUNT, idle=5, short=True))
    seen = found.apply.requests
    asked = Counter({key: seen[key] for key in seen if key[0] not in ("list", "watch") and key[1] not in UNCOUNTED})
    patches = asked.pop(("patch", "inferenceendpoints/status"))
    assert asked == {
        ("create", "secrets"): 2 * COUNT,
        ("create", "poddisruptionbudgets"): COUNT,
        ("create", "networkpolicies"): COUNT,
        ("create", "services"): COUNT,
        ("create", "deployments"): COUNT,
        ("patch", "inferenceendpoints/scale"): COUNT,
    }
    assert patches <= 4 * COUNT
    assert writes(found.idle.requests) == {}
    assert writes(found.restart.requests + found.after_restart.requests) == {}
