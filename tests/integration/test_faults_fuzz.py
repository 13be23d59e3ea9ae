"""Random specs on the real API server: every accepted spec reaches a fixed point, with a status that is accepted too.

The long way, with random states of the cluster too, is tests/unit/operator/test_fuzz_reconcile.py on a fake one.
"""

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings

from forebay_kube.api_client import ApiClient, ApiServerError
from tests.endpoints import endpoint
from tests.integration.faulty_api import FaultyApi
from tests.integration.in_process import Administrator, InProcessOperator
from tests.integration.kubernetes_client import connect
from tests.kubectl import Kubectl
from tests.unit.operator.schema import PROPERTIES, values_of

EXAMPLES = 25


async def make_and_settle(admin: Kubectl, operators: Path, namespace: str, name: str, spec: Any) -> str:
    """The outcome of an endpoint with that spec: the reason of Ready, or "" if the API server refused it."""
    async with await connect(admin.kubeconfig) as ours, await connect(operators) as its:
        administrator, api = Administrator(ApiClient(ours), namespace), FaultyApi(its)
        try:
            await administrator.create({**endpoint(name), "spec": {**spec, "suspend": True}})
        except ApiServerError as error:
            if error.status not in (400, 422):
                raise
            return ""
        operator = InProcessOperator(api, administrator, name)
        await operator.settle()
        assert await operator.check_in_full() == 0
        found = await administrator.get(name)
        assert found
        await administrator.delete(name)
        return str(found["status"]["conditions"][0]["reason"])


@pytest.mark.usefixtures("whole_control_plane")
def test_any_spec_that_the_api_server_accepts_reaches_a_fixed_point(
    control_plane: Kubectl, operators_kubectl: Kubectl, kubectl: Kubectl
) -> None:
    reasons: list[str] = []
    numbers = count()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(values_of(PROPERTIES["spec"]))
    @example({"model": "org/model", "route": {"parentRefs": [{"name": "a", "kind": "0", "group": "01ï"}]}})
    @example({"model": "org/model", "pod": {"priorityClassName": "🌀"}})
    def check(spec: Any) -> None:
        name = f"e{next(numbers)}"  # one of its own, as the children of the endpoint before are still on their way out
        made = make_and_settle(control_plane, operators_kubectl.kubeconfig, kubectl.namespace, name, spec)
        reasons.append(asyncio.run(made))

    check()
    print({reason: reasons.count(reason) for reason in sorted(set(reasons))})
    assert reasons.count("Suspended") > EXAMPLES // 8, "enough of the specs are valid"
