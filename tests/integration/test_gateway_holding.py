"""The gateway against a real API server, with canned pods: pending requests, starts, and refusals."""

import json
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.integration import canned_pod
from tests.integration.canned_pod import TEXT, CannedPod, Exchange
from tests.integration.gateway_process import KEY, MODEL, Gateway, running_gateway
from tests.integration.openai_calls import (
    AUTHORIZED,
    HELLO,
    ask,
    ask_streamed,
    chat,
    condition,
    connects,
    raw,
    ready_pod,
    send,
)
from tests.kubectl import wait_for


def test_a_request_starts_its_endpoint_and_is_answered(gateway: Gateway, pool: ThreadPoolExecutor) -> None:
    port = gateway.endpoint("wakes")
    asking = pool.submit(ask, gateway.client(f"http://127.0.0.1:{port}/v2/wakes/openai/v1"))
    wait_for(lambda: gateway.replicas("wakes") == 1, "the endpoint is started")
    assert gateway.held("wakes")["held"] == 1
    with CannedPod(ops_port=gateway.pod_ops_port, ready=False) as pod:
        gateway.pods("wakes", pod, ready=False)
        wait_for(lambda: pod.probes > 1, "the gateway connects to the pod")
        assert not pod.requests
        pod.ready = True
        assert asking.result(10) == TEXT
    assert gateway.held("wakes") == {"held": 0, "begun": 1, "oldestSeconds": 0.0, "queued": 0}


def test_an_endpoint_is_started_only_once_its_replicas_are_set(gateway: Gateway, pool: ThreadPoolExecutor) -> None:
    """The operator fills in an absent number, which may differ from 0."""
    port = gateway.endpoint("numberless")
    gateway.kubectl.patch("iep", "numberless", {"spec": {"replicas": None}})
    wait_for(
        lambda: "replicas" not in (gateway.kubectl.get("iep", "numberless") or {})["spec"],
        "the endpoint has no number of replicas",
    )
    gateway.endpoint("after-it")  # so the gateway has seen the change
    asking = pool.submit(ask, gateway.client(f"http://127.0.0.1:{port}/v2/numberless/openai/v1"))
    wait_for(lambda: gateway.held("numberless").get("held") == 1, "the request is pending")
    assert f"{gateway.kubectl.namespace}/numberless" not in gateway.log.read_text(), "no endpoint is started"
    gateway.kubectl.run("scale", "iep/numberless", "--replicas=0")
    wait_for(lambda: gateway.replicas("numberless") == 1, "the endpoint is started")
    with CannedPod(ops_port=gateway.pod_ops_port) as pod:
        gateway.pods("numberless", pod)
        assert asking.result(10) == TEXT
    assert f"woke {gateway.kubectl.namespace}/numberless" in gateway.log.read_text()


def test_requests_that_need_no_engine_start_no_pod(gateway: Gateway) -> None:
    port = gateway.endpoint("asleep")
    gateway.status("asleep", conditions=[condition("Ready", "True", "Idle", "the gateway holds requests")])
    shared = "/v2/asleep/openai/v1"
    wait_for(lambda: b"Idle" in send(port, "GET", "/v1/models")[2], "the gateway has read the state")
    model = {"object": "model", "owned_by": "vllm", "endpoint": "asleep", "state": "Idle"}
    for where, path in ((port, "/v1/models"), (gateway.port, f"{shared}/models"), (port, "/v2/x/openai/v1/models")):
        status, _, body = send(where, "GET", path)
        (found,) = json.loads(body)["data"]
        assert (status, {**found, **model}) == (200, found)
    assert json.loads(send(port, "GET", f"/v1/models/{MODEL}")[2])["id"] == MODEL
    assert send(port, "GET", "/health", key="")[0] == 200
    assert send(port, "GET", "/ping", key="")[0] == 204
    assert send(gateway.port, "GET", "/ping", key="")[0] == 200
    status, headers, body = send(port, "HEAD", "/v1/models")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0
    assert gateway.replicas("asleep") == 0
    assert gateway.held("asleep") == {}


REFUSED = {
    "no key": ("POST", "/v1/chat/completions", chat(), "", 401, None),
    "wrong key": ("POST", "/v1/chat/completions", chat(), "wrong-key-0123456789", 401, "invalid_api_key"),
    "another's key": ("POST", "/v1/chat/completions", chat(), "fb_key-of-the-other", 401, "invalid_api_key"),
    "no key for models": ("GET", "/v1/models", None, "", 401, None),
    "no such path": ("POST", "/v1/nothing", chat(), KEY, 404, "unknown_url"),
    "nothing below": ("POST", "/tokenize/x", {"model": MODEL, "prompt": "a"}, KEY, 404, "unknown_url"),
    "engine control": ("POST", "/sleep", None, KEY, 404, "unknown_url"),
    "no such model": ("POST", "/v1/chat/completions", chat(model="other"), KEY, 404, "model_not_found"),
    "no such model to look up": ("GET", "/v1/models/other", None, KEY, 404, "model_not_found"),
    "no model": ("POST", "/v1/chat/completions", {"messages": HELLO}, KEY, 400, "missing_required_parameter"),
    "no JSON": ("POST", "/v1/chat/completions", b"{", KEY, 400, "invalid_json"),
    "JSON that is no object": ("POST", "/v1/chat/completions", b"[1]", KEY, 400, "invalid_json"),
    "nothing to get": ("GET", "/v1/responses/resp_1", None, KEY, 404, "endpoint_not_ready"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_rejected_request_gets_openais_error_format_and_starts_no_pod(
    gateway: Gateway, refusing: int, case: str
) -> None:
    method, path, body, key, expected, code = REFUSED[case]
    status, headers, answer = send(refusing, method, path, body, key)
    error = json.loads(answer)["error"]
    assert (status, error["code"], headers["connection"]) == (expected, code, "close")
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}
    assert len(headers["x-request-id"]) == 32
    assert gateway.replicas("refusing") == 0


@pytest.fixture(scope="module")
def refusing(gateway: Gateway) -> Iterator[int]:
    """The port of an endpoint that nothing has woken, also once a later request has woken another."""
    gateway.endpoint("other", keys=["fb_key-of-the-other"], models=["other/model"])
    yield gateway.endpoint("refusing")
    port = gateway.endpoint("woken-later")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        body = json.dumps(chat()).encode()
        connection.sendall(AUTHORIZED + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        wait_for(lambda: gateway.replicas("woken-later") == 1, "a valid request starts its endpoint")
    assert gateway.replicas("refusing") == 0


@pytest.mark.parametrize(("name", "known"), [("hidden", "Some"), ("unsaid", "")])
def test_a_model_name_that_the_operator_may_not_know_starts_its_endpoint(
    gateway: Gateway, pool: ThreadPoolExecutor, name: str, known: str
) -> None:
    gateway.endpoint(name, models_known=known)
    asking = pool.submit(gateway.client(gateway.url(name)).chat.completions.create, model="mine", messages=HELLO)
    wait_for(lambda: gateway.replicas(name) == 1, "the endpoint is started")
    with ready_pod(gateway, name):
        assert asking.result(30).choices[0].message.content == TEXT


def test_the_official_client_raises_the_same_errors_as_with_openai(gateway: Gateway, refusing: int) -> None:
    base = gateway.url("refusing")
    with pytest.raises(openai.AuthenticationError):
        ask(gateway.client(base, "wrong-key-0123456789"))
    with pytest.raises(openai.NotFoundError, match="model `nothing`"):
        gateway.client(base).completions.create(model="nothing", prompt="Hello")
    with pytest.raises(openai.NotFoundError, match="no endpoint 'missing'"):
        ask(gateway.client(gateway.url("missing")))
    with pytest.raises(openai.AuthenticationError):
        ask(gateway.client(gateway.url("missing"), "wrong-key-0123456789"))
    assert gateway.replicas("refusing") == 0


HOSTILE = {
    "a head without end": ([b"GET / HTTP/1.1\r\n" + b"X: %s\r\n" % (b"a" * 9000) * 9], 0.0, b"431"),
    "a head in drops": ([b"GET / HTTP/1.1\r\n", *[b"X: y\r\n"] * 20], 0.1, b"408"),
    "a body in drops": ([AUTHORIZED + b"Content-Length: 900\r\n\r\n", *[b"{"] * 30], 0.1, b"408"),
    "a body that is declared too large": ([AUTHORIZED + b"Content-Length: 999999999\r\n\r\n{"], 0.0, b"413"),
    "a body in chunks that grows too large": (
        [AUTHORIZED + b"Transfer-Encoding: chunked\r\n\r\n", *[b"100000\r\n%s\r\n" % (b" " * (1 << 20))] * 40],
        0.0,
        b"413",
    ),
    "two lengths": ([AUTHORIZED + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"], 0.0, b"400"),
    "a length and chunks": (
        [AUTHORIZED + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
        0.0,
        b"400",
    ),
    "no HTTP": ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 0.0, b"400"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_clients_get_a_clear_answer_and_start_no_pod(gateway: Gateway, refusing: int, case: str) -> None:
    parts, pause, status = HOSTILE[case]
    answer = raw(refusing, *parts, pause=pause)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert json.loads(body)["error"]["message"]
    assert gateway.replicas("refusing") == 0


def test_a_silent_client_is_disconnected(refusing: int) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", refusing), timeout=20) as connection:
        assert connection.recv(100) == b""
    assert time.monotonic() - began < 3


def test_expect_continue_is_answered_only_with_a_valid_key(gateway: Gateway, refusing: int) -> None:
    head = b"Content-Length: 1\r\nExpect: 100-continue\r\n\r\n"
    assert raw(refusing, AUTHORIZED + head, b"{", pause=0.2).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 ")
    wrong = AUTHORIZED.replace(KEY.encode(), b"wrong-key-0123456789")
    assert raw(refusing, wrong + head).startswith(b"HTTP/1.1 401 ")


def test_a_waiting_stream_gets_comments_and_then_passes_unchanged(gateway: Gateway, pool: ThreadPoolExecutor) -> None:
    port = gateway.endpoint("heartbeats")
    startup = {"step": "Downloading", "percent": 43, "etaSeconds": 21}
    gateway.status("heartbeats", startup=startup)
    official = pool.submit(ask_streamed, gateway.client(gateway.url("heartbeats")))
    bare = pool.submit(send, port, "POST", "/v1/chat/completions", chat(stream=True))
    wait_for(lambda: gateway.held("heartbeats").get("oldestSeconds", 0) > 1.2, "it waits for some time")
    with CannedPod() as pod:
        gateway.pods("heartbeats", pod)
        assert official.result(10) == TEXT
        status, headers, body = bare.result(10)
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    comments, _, events = body.partition(b"data: ")
    assert comments.count(b": forebay: Downloading, 43 %, about 21 s left\n\n") >= 2
    assert events.endswith(b"data: [DONE]\n\n")
    assert f"x-request-id: {headers['x-request-id']}\r\n".encode() in b"".join(each.head for each in pod.requests)


def wait_until_known(gateway: Gateway, name: str) -> None:
    """Wait until a gateway knows an endpoint and its key."""
    path = f"/v2/{name}/openai/v1/models"
    wait_for(lambda: send(gateway.port, "GET", path)[0] == 200, f"the gateway knows {name}")


LATE = {
    "chat": ("/v1/chat/completions", b"data: {", {"error"}),
    "responses": ("/v1/responses", b"event: error\ndata: {", {"type", "code", "message", "param", "sequence_number"}),
    "anthropic": ("/v1/messages", b"event: error\ndata: {", {"type", "error"}),
}


@pytest.mark.parametrize("case", LATE)
def test_a_failure_after_comments_is_one_event_in_the_format_of_the_api(
    gateway: Gateway, pool: ThreadPoolExecutor, case: str
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.read_body()
        await canned_pod.reply(exchange, 400, {"error": {"message": "too long", "code": "context_length_exceeded"}})

    path, beginning, fields = LATE[case]
    port = gateway.endpoint(f"late-{case}")
    asking = pool.submit(send, port, "POST", path, chat(stream=True, input="x"))
    wait_for(lambda: gateway.held(f"late-{case}").get("oldestSeconds", 0) > 0.9, "it waits for some time")
    with CannedPod() as pod:
        pod.answer = refuse
        gateway.pods(f"late-{case}", pod)
        status, _, body = asking.result(10)
    assert status == 200
    last = body.rpartition(b": forebay: ")[2].partition(b"\n\n")[2]
    assert last.startswith(beginning)
    event = json.loads(last.partition(b"data: ")[2])
    assert set(event) >= fields
    assert event["error"]["message"] == "too long"
    assert event["error"]["status"] == 400


def test_the_official_client_raises_for_a_late_failure(gateway: Gateway, impatient_gateway: Gateway) -> None:
    gateway.endpoint("late")
    gateway.status("late", conditions=[condition("Ready", "False", "Scheduling", "no node has a free GPU")])
    wait_until_known(impatient_gateway, "late")
    with pytest.raises(openai.APIError, match="did not become ready within 3 s; it is at: Scheduling") as raised:
        ask_streamed(impatient_gateway.client(impatient_gateway.url("late")))
    assert not isinstance(raised.value, openai.APIStatusError)
    assert "no node has a free GPU" in raised.value.message


def test_a_plain_request_that_times_out_names_the_step(gateway: Gateway, impatient_gateway: Gateway) -> None:
    gateway.endpoint("slow")
    gateway.status("slow", startup={"step": "Downloading", "percent": 7, "etaSeconds": 90})
    wait_until_known(impatient_gateway, "slow")
    status, headers, body = send(impatient_gateway.port, "POST", "/v2/slow/openai/v1/chat/completions", chat())
    assert (status, headers.get("retry-after")) == (503, "90"), body
    error = json.loads(body)["error"]
    assert "Downloading, 7 %, about 90 s left" in error["message"]
    assert (error["type"], error["code"]) == ("server_error", "endpoint_starting")


def test_a_failed_start_is_reported_immediately(gateway: Gateway) -> None:
    port = gateway.endpoint("failed", replicas=1)
    why = "the model org/model does not exist on the hub: check spec.model"
    conditions = [condition("Ready", "False", "ModelNotFound", why), condition("Stalled", "True", "ModelNotFound", why)]
    gateway.status("failed", conditions=conditions)
    began = time.monotonic()
    wait_for(
        lambda: why.encode() in send(port, "POST", "/v1/chat/completions", chat())[2], "the diagnosis is shown", 20
    )
    status, _, body = send(port, "POST", "/v1/chat/completions", chat())
    assert (status, json.loads(body)["error"]["code"]) == (503, "endpoint_failed")
    assert time.monotonic() - began < 8


def test_a_suspended_endpoint_is_not_started(gateway: Gateway) -> None:
    port = gateway.endpoint("off", scaling=None)
    suspended = gateway.endpoint("suspended", suspend=True)
    for where, why in ((port, "replicas: 0, without scaling"), (suspended, "suspend: true")):
        status, _, body = send(where, "POST", "/v1/chat/completions", chat())
        assert status == 503
        assert why in json.loads(body)["error"]["message"]
        assert send(where, "GET", "/health", key="")[0] == 503
    assert (gateway.replicas("off"), gateway.replicas("suspended")) == (0, 0)


def test_an_open_endpoint_needs_no_key(gateway: Gateway) -> None:
    port = gateway.endpoint("open", keys=[], auth={"mode": "None"})
    with ready_pod(gateway, "open"):
        assert send(port, "POST", "/v1/chat/completions", chat(), key="")[0] == 200
        assert send(gateway.port, "POST", "/v2/open/openai/v1/chat/completions", chat(), key="")[0] == 200
        assert send(gateway.port, "POST", "/openai/v1/chat/completions", chat(), key="")[0] == 200
    gateway.kubectl.delete("iep", "open")  # as every key opens it


def test_one_url_finds_the_endpoint_by_the_model(gateway: Gateway) -> None:
    shared = f"http://127.0.0.1:{gateway.port}/openai/v1"
    key = "fb_the-key-of-one-url"
    gateway.endpoint("by-model", keys=[key], models=["a", "both"])
    gateway.endpoint("twin", keys=[key], models=["b", "both"])
    listed = gateway.client(shared, key).models.list().data
    states = {(model.id, (model.model_extra or {})["endpoint"]) for model in listed}
    assert states == {("a", "by-model"), ("both", "by-model"), ("b", "twin"), ("both", "twin")}
    with ready_pod(gateway, "by-model", key) as pod:
        answer = gateway.client(shared, key).chat.completions.create(model="a", messages=HELLO)
        assert answer.choices[0].message.content == TEXT
        assert pod.requests[-1].head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    with pytest.raises(openai.ConflictError, match="/v2/by-model/openai/v1 and /v2/twin/openai/v1"):
        gateway.client(shared, key).completions.create(model="both", prompt="Hello")
    with pytest.raises(openai.NotFoundError, match="model `nothing`"):
        gateway.client(shared, key).completions.create(model="nothing", prompt="Hello")
    with pytest.raises(openai.AuthenticationError):
        gateway.client(shared, "wrong-key-0123456789").completions.create(model="a", prompt="Hello")
    assert send(gateway.port, "POST", "/openai/v1/chat/completions", {"messages": HELLO}, key)[0] == 400
    assert (gateway.replicas("by-model"), gateway.replicas("twin")) == (0, 0)


def test_a_client_that_disconnects_frees_its_place(gateway: Gateway) -> None:
    port = gateway.endpoint("leaves")
    body = json.dumps(chat()).encode()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(AUTHORIZED + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        wait_for(lambda: gateway.held("leaves").get("held") == 1, "the request is pending")
    wait_for(lambda: gateway.held("leaves")["held"] == 0, "the request is released", timeout=30)


def test_pending_requests_above_the_limit_are_rejected(gateway: Gateway, pool: ThreadPoolExecutor) -> None:
    gateway.endpoint("crowded")
    asking = [pool.submit(ask, gateway.client(gateway.url("crowded"))) for _ in range(4)]
    wait_for(lambda: gateway.held("crowded").get("held") == 4, "four requests are pending")
    with pytest.raises(openai.RateLimitError, match="Too many requests wait"):
        ask(gateway.client(gateway.url("crowded")))
    with CannedPod() as pod:
        gateway.pods("crowded", pod)
        assert [each.result(10) for each in asking] == [TEXT] * 4


def test_pending_requests_fail_when_their_endpoint_is_deleted(gateway: Gateway, pool: ThreadPoolExecutor) -> None:
    port = gateway.endpoint("deleted")
    asking = pool.submit(send, port, "POST", "/v1/chat/completions", chat())
    wait_for(lambda: gateway.held("deleted").get("held") == 1, "the request is pending")
    gateway.kubectl.delete("iep", "deleted")
    assert asking.result(5)[0] == 404
    gateway.kubectl.delete("endpointslice", "deleted-gateway")
    wait_for(lambda: not connects(port), "the port is closed")


def test_requests_without_a_key_count_against_the_namespace_of_their_model(
    gateway: Gateway, pool: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A request without a key that names only the model counts against that model's namespace."""
    log, namespace = tmp_path_factory.mktemp("open") / "log", f"other-{uuid.uuid4().hex[:6]}"
    gateway.kubectl.run("create", "namespace", namespace)
    limits: dict[str, Any] = {"kept_bytes": 32 << 20, "hold_seconds": 20, "body_seconds": 20}
    with running_gateway(gateway.kubectl, gateway.system, log, **limits) as second:
        there, no_key = second.within(namespace), {"mode": "None"}
        second.endpoint("open-here", keys=(), models=["here/model"], auth=no_key)
        there.endpoint("open-there", keys=(), models=["there/model"], auth=no_key)

        def post(model: str) -> int:
            body = chat(model=model, messages=[{"role": "user", "content": "x" * (6 << 20)}])
            return send(second.port, "POST", "/openai/v1/chat/completions", body, key="")[0]

        held = [pool.submit(post, "here/model") for _ in range(2)]
        wait_for(lambda: second.held("open-here").get("held") == 2, "the requests are pending")
        assert post("here/model") == 429
        with CannedPod(ops_port=second.pod_ops_port) as pod:
            there.pods("open-there", pod)
            assert post("there/model") == 200
            second.pods("open-here", pod)
            assert [each.result(20) for each in held] == [200, 200]
