"""The operator as a process is killed by SIGKILL at one of its requests, and another continues from there.

test_faults.py does the same in the test process, at each request of an endpoint's life. This file kills the real
process.
"""

import signal
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.endpoints import endpoint, reason_is
from tests.integration.convergence import LONG, replicas_are
from tests.integration.faulty_proxy import Asked, Cut, FaultyProxy
from tests.integration.operator_process import running_operator
from tests.kubectl import Kubectl, condition, wait_for

Process = subprocess.Popen[bytes]


def kill_at(
    number: int, cut: Cut, proxy: FaultyProxy, operator: AbstractContextManager[Process], kubectl: Kubectl
) -> bool:
    """Give an operator an endpoint to create, and kill it at one of its requests; False without such a request."""
    count, killed = 0, list[int]()

    def strike(asked: Asked) -> Cut | None:
        nonlocal count
        if f"/namespaces/{kubectl.namespace}/" not in asked.path or asked.watch or asked.lists:
            return None
        count += 1
        return cut if count == number else None

    proxy.rule = strike
    with operator as process:

        def kill() -> None:
            process.send_signal(signal.SIGKILL)
            killed.append(number)

        proxy.when_cut = kill
        kubectl.apply(endpoint())
        wait_for(lambda: killed or reason_is(kubectl, "Scheduling")(), "the operator is killed or finished")
    proxy.rule, proxy.when_cut = (lambda _: None), (lambda: None)
    return bool(killed)


@pytest.mark.parametrize(
    ("number", "cut"),
    [
        (6, Cut.AFTER),
        *(pytest.param(n, cut, marks=pytest.mark.soak) for n in range(1, 10) for cut in Cut),
    ],
)
def test_a_new_operator_continues_from_any_request_at_which_the_first_was_killed(
    proxy: FaultyProxy, access: Kubectl, kubectl: Kubectl, tmp_path: Path, *, number: int, cut: Cut
) -> None:
    operator = running_operator(access, tmp_path / "killed", "--resync-interval", LONG)
    killed = kill_at(number, cut, proxy, operator, kubectl)
    assert killed or number > 7
    key = kubectl.get("secret", "one-api-key")
    # another test shows that the lease expires
    kubectl.within("forebay-system").patch("lease", "forebay-operator", {"spec": {"holderIdentity": ""}})
    with running_operator(access, tmp_path / "log", "--resync-interval", LONG):
        wait_for(reason_is(kubectl, "Scheduling"), "the endpoint waits for a node")
        wait_for(replicas_are(kubectl, 1), "a pod exists")
    assert condition(kubectl.get("iep", "one"), "Stalled")["status"] == "False"
    for kind, count in (("deployment", 1), ("replicaset", 1), ("service", 1), ("secret", 2), ("pdb", 1), ("pod", 1)):
        assert len(kubectl.list(kind)) == count, kind
    after = kubectl.get("secret", "one-api-key")
    assert after
    assert key is None or key["data"] == after["data"], "a key that clients may have is never replaced"
    assert "Traceback" not in (tmp_path / "log").read_text()
