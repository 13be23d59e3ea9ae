"""The health check that docs/troubleshooting.md gives to Argo CD, run in Lua 5.1, as that of Argo CD is."""

from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime

from cluster.pins import ROOT
from docs.generators.troubleshooting import ARGO_CD
from forebay_operator.spec import parse_endpoint
from forebay_operator.status.observed import Observed
from tests.kubectl import Manifest
from tests.unit.operator import kstatus
from tests.unit.operator.builders import NOW, STATES, endpoint_manifest, find_status

HEALTH = {"Current": "Healthy", "InProgress": "Progressing", "Failed": "Degraded"}
"""kstatus' name -> Argo CD's."""

OFF = ("Suspended", "ScaledToZero")
"""Reasons of Ready for which Argo CD has a name that kstatus lacks."""


def judge_health(manifest: Manifest) -> Any:
    """The result of the Lua script: a table with status and message."""
    lua = LuaRuntime()
    lua.globals().obj = lua.table_from(manifest, recursive=True)
    return lua.execute(ARGO_CD)


@pytest.mark.parametrize(("wanted", "observed", "reason"), [row[1:4] for row in STATES], ids=[row[0] for row in STATES])
def test_argo_cd_rates_every_state_like_kstatus(wanted: int, observed: Observed, reason: str) -> None:
    manifest = endpoint_manifest(replicas=wanted)
    seen = {**manifest, "status": find_status(parse_endpoint(manifest), observed, {}, NOW)}
    health = judge_health(seen)
    word = HEALTH[kstatus.compute(seen)]
    assert health.status == ("Suspended" if reason in OFF and word == "Healthy" else word)
    assert health.message.startswith(f"{reason}: ")
    changed = {**seen, "metadata": {**manifest["metadata"], "generation": 4}}
    assert judge_health(changed).status == "Progressing"


def test_an_endpoint_without_a_status_is_progressing() -> None:
    crd = yaml.safe_load((ROOT / "crds/inferenceendpoints.forebay.dev.yaml").read_text())
    fresh = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["default"]
    assert judge_health({**endpoint_manifest(), "status": fresh}).status == "Progressing"
    assert judge_health(endpoint_manifest()).status == "Progressing"
