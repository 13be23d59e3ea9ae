"""One of two operators works; the other takes over when the first ends, immediately or within 15 s."""

import json
import signal
import time
from pathlib import Path

from tests.endpoints import start
from tests.integration.control_plane import free_ports
from tests.integration.operator_probes import leads, metric, stands_by
from tests.integration.operator_process import running_operator
from tests.kubectl import Kubectl, wait_for


def test_the_second_operator_takes_over(kubectl: Kubectl, operators_kubectl: Kubectl, tmp_path: Path) -> None:
    first_port, second_port, third_port = free_ports(3)
    with running_operator(operators_kubectl, tmp_path / "first", port=first_port) as first:
        wait_for(lambda: leads(first_port), "the first operator is leading")
        with running_operator(operators_kubectl, tmp_path / "second", port=second_port) as second:
            wait_for(lambda: stands_by(second_port), "the second operator is on standby")
            start(kubectl)
            assert metric(first_port, "forebay_leader ") == 1
            assert metric(second_port, "forebay_leader ") == 0

            killed = time.monotonic()
            first.send_signal(signal.SIGKILL)
            first.wait(timeout=10)
            wait_for(lambda: leads(second_port), "the second operator is leading")
            assert time.monotonic() - killed < 15
            with running_operator(operators_kubectl, tmp_path / "third", port=third_port):
                wait_for(lambda: stands_by(third_port), "the third operator is on standby")
                stopped = time.monotonic()
                second.send_signal(signal.SIGTERM)
                wait_for(lambda: leads(third_port), "the third operator is leading")
                assert time.monotonic() - stopped < 8
                assert second.wait(timeout=10) == 0
                kubectl.patch("iep", "one", {"spec": {"replicas": 2}})
                wait_for(lambda: len(kubectl.list("pods")) == 2, "the third operator reconciles")


def test_an_operator_that_loses_the_lease_exits(
    kubectl: Kubectl, operators_kubectl: Kubectl, control_plane: Kubectl, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    with running_operator(operators_kubectl, tmp_path / "log", port=port) as operator:
        wait_for(lambda: leads(port), "the operator is leading")
        thief = {"spec": {"holderIdentity": "another", "leaseDurationSeconds": 1}}
        command = ["patch", "lease", "forebay-operator", "--type=merge", "--patch", json.dumps(thief)]
        control_plane.within("forebay-system").run(*command)
        assert operator.wait(timeout=15) == 1
    assert "another operator holds the lease now" in (tmp_path / "log").read_text()
