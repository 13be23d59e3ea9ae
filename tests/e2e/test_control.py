"""Engine control in a cluster: from another pod it answers only requests with the endpoint's token, and the Service has
no port for it."""

import base64
import json

from tests.e2e.canned import canned
from tests.e2e.forebay import PROGRAMS, Clients, read_key, wait_ready
from tests.kubectl import Kubectl, condition, wait_for

POSTS = (
    "/sleep",
    "/wake_up",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/start_profile",
    "/stop_profile",
)
CONTROLS = ["GET", "/is_sleeping", *(word for path in POSTS for word in ("POST", path))]


def test_another_pod_needs_the_token_of_the_endpoint(kubectl: Kubectl, clients: Clients) -> None:
    name = "controlled"
    kubectl.apply(canned(name))
    wait_ready(kubectl, name)
    (pod,) = kubectl.list("pods", f"forebay.dev/endpoint={name}")
    host = f"{pod['status']['podIP']}:8001"
    key = read_key(kubectl, name)
    secret = kubectl.get("secret", f"{name}-control")
    assert secret is not None
    token = base64.b64decode(secret["data"]["token"]).decode()

    def ask(host: str, token: str, *asked: str) -> list[int]:
        answers: list[int] = json.loads(clients.run_inside(PROGRAMS / "control.py", host, token, *asked))
        return answers

    assert ask(host, "", "GET", "/readyz") == [200]
    for wrong in ("", key, "a-token-that-was-made-up"):
        assert ask(host, wrong, *CONTROLS) == [401] * (len(CONTROLS) // 2)
    service = f"{name}.{kubectl.namespace}.svc"
    exposed = kubectl.get("service", name) or {}
    assert [port["targetPort"] for port in exposed["spec"]["ports"]] == ["http"]
    # what answers for a port that the Service has not is a matter of the network around the cluster: not our server
    assert not {200, 401, 403} & set(ask(f"{service}:8001", token, *CONTROLS))
    assert set(ask(f"{service}:80", key, *CONTROLS)) <= {404, 405}
    assert set(ask(f"{service}:80", token, *CONTROLS)) == {401}
    assert ask(host, token, "GET", "/is_sleeping", "POST", "/sleep?level=0", "GET", "/livez") == [200, 200, 200]
    wait_for(lambda: condition_is_false(kubectl, name) or None, "the status says that no pod serves", timeout=180)
    assert ask(host, token, "POST", "/wake_up", "GET", "/readyz") == [200, 200]
    wait_ready(kubectl, name)
    kubectl.delete("iep", name)


def condition_is_false(kubectl: Kubectl, name: str) -> bool:
    return condition(kubectl.get("iep", name), "Ready").get("status") == "False"
