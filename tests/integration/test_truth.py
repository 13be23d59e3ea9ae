"""A whole start as the status reports it, and the cost of these reports, counted in the API server's own log."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from forebay_protocol.pod import OPS_PORT
from tests.endpoints import reason_is, start
from tests.integration.audit import operators_requests
from tests.integration.control_plane import free_ports
from tests.integration.kubelet import newest_pod, play_kubelet
from tests.integration.operator_probes import ask
from tests.integration.operator_process import running_operator
from tests.kubectl import Kubectl, Manifest, condition, wait_for

POD_ADDRESS = "127.93.0.1"
"""Any address of the loopback network can be bound, so the simulated pod has its own."""


class Pod:
    """The ops port of a server that loads: answers GET /startup with the report of the moment, and counts."""

    def __init__(self) -> None:
        self.report: Manifest = {"step": "Importing", "seconds": {"Importing": 1.0}}
        self.asked = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        pod = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(pod.report).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)
                pod.asked += 1

            def log_message(self, *_: object) -> None:
                """Nothing: the tests' output is not the place."""

        with ThreadingHTTPServer((POD_ADDRESS, OPS_PORT), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield
            server.shutdown()


def moment(seconds: int) -> str:
    """A time of the pod's life, as the kubelet writes it, in seconds after its creation just now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_start_costs_four_status_writes_and_one_write_for_each_child(
    kubectl: Kubectl, control_plane: Kubectl, operators_kubectl: Kubectl, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    pod = Pod()
    log = tmp_path / "log"
    with pod.listening(), running_operator(operators_kubectl, log, "--resync-interval=300", port=port):
        start(kubectl)
        name = newest_pod(kubectl)
        wait_for(reason_is(kubectl, "Scheduling"), "the endpoint waits for a node")
        happened: list[Manifest] = [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": moment(2)},
            {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": moment(3)},
        ]
        for count in (1, 2):
            play_kubelet(kubectl, name, {"conditions": happened[:count]})
        server = {
            "name": "server", "image": "x", "imageID": "x", "restartCount": 0, "ready": False, "started": False,
            "state": {"running": {"startedAt": moment(40)}},
        }  # fmt: skip
        play_kubelet(kubectl, name, {"podIP": POD_ADDRESS, "conditions": happened, "containerStatuses": [server]})
        wait_for(lambda: pod.asked > 0, "the operator polls the pod")
        steps = {"Importing": 6.4, "LoadingWeights": 3.0, "WarmingUp": 0.6}
        pod.report = {"step": "Ready", "seconds": steps, "reasoningParser": "qwen3"}
        wait_for(lambda: pod.asked > 1, "the operator polls again")
        happened.append({"type": "Ready", "status": "True"})
        answering = {**server, "ready": True, "started": True}
        play_kubelet(kubectl, name, {"conditions": happened, "containerStatuses": [answering]})
        found = wait_for(reason_is(kubectl, "Ready"), "the endpoint is ready")
        assert condition(found, "ModelLoaded")["status"] == "True"

        def last_start() -> Manifest | None:
            status: Manifest = (kubectl.get("iep", "one") or {})["status"]
            return status.get("lastStart")

        seconds = wait_for(last_start, "the status summarizes the start")["seconds"]
        assert (seconds["importing"], seconds["loading"], seconds["warmingUp"]) == (6, 3, 1)
        assert (seconds["preparing"], 36 <= seconds["pulling"] <= 38) == (1, True)
        advised = condition(kubectl.get("iep", "one") or {}, "EnvRecognized")
        assert (advised["status"], "REASONING_PARSER=qwen3" in advised["message"]) == ("True", True)
        labels = f'endpoint="one",namespace="{kubectl.namespace}",step="importing"'
        line = f"forebay_endpoint_last_start_seconds{{{labels}}} 6.0"
        wait_for(
            lambda: line in ask(port, "/metrics")[1].splitlines(), "the metrics show it after the operator restarted"
        )
    counts = Counter(
        (each.verb, each.resource)
        for each in operators_requests(control_plane)
        if each.namespace == kubectl.namespace and each.resource != "events"
    )
    patches = counts.pop(("patch", "inferenceendpoints/status"))
    assert patches <= 4
    assert counts == {
        ("patch", "inferenceendpoints/scale"): 1,
        ("create", "deployments"): 1,
        ("create", "services"): 1,
        ("create", "secrets"): 2,
        ("create", "poddisruptionbudgets"): 1,
        ("create", "networkpolicies"): 1,
    }


def test_a_deleted_secret_is_restored_once_a_pod_needs_it(
    kubectl: Kubectl, operators_kubectl: Kubectl, tmp_path: Path
) -> None:
    """Secrets are not watched, and with thousands of endpoints a resync takes hours."""
    with running_operator(operators_kubectl, tmp_path / "log", "--resync-interval=300"):
        start(kubectl)
        name = newest_pod(kubectl)
        kubectl.delete("secret", "one-api-key")
        waiting = {"reason": "CreateContainerConfigError", "message": 'secret "one-api-key" not found'}
        server = {
            "name": "server", "image": "x", "imageID": "", "restartCount": 0, "ready": False, "started": False,
            "state": {"waiting": waiting},
        }  # fmt: skip
        play_kubelet(kubectl, name, {"containerStatuses": [server]})
        wait_for(lambda: kubectl.get("secret", "one-api-key"), "the Secret is created again")
