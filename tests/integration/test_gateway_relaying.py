"""The gateway against a real API server, with canned pods: relaying and shutdown."""

import asyncio
import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import openai
import pytest

from tests.clients.recordings import read_recordings
from tests.integration import canned_pod
from tests.integration.canned_pod import TEXT, CannedPod, Exchange
from tests.integration.gateway_process import MODEL, Gateway, pod_name, running_gateway
from tests.integration.openai_calls import (
    AUTHORIZED,
    ask,
    ask_streamed,
    chat,
    raw,
    ready_pod,
    send,
    wait_until_listed,
)
from tests.kubectl import wait_for


def test_the_response_passes_through_unchanged(gateway: Gateway) -> None:
    """Spelling and order included. The answer's head ends the connection, the request's omits hop-by-hop lines."""
    port = gateway.endpoint("untouched")
    answer = b"HTTP/1.1 418 I am a Teapot\r\nX-b: 2\r\nx-A:1\r\nContent-Length: 3\r\n\r\n\x00\xff\n"

    async def answer_so(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.send(answer)

    with ready_pod(gateway, "untouched") as pod:
        pod.answer = answer_so
        head = (
            AUTHORIZED + b"X-Own:  spaced\r\nX-Request-Id: mine\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n"
        )
        added = b"\r\nx-runpod-worker-id: untouched-6d8f-pod0\r\nconnection: close\r\n\r\n"
        expected = answer.replace(b"\r\n\r\n", added)
        assert raw(port, head + b"{}") == expected
        (request,) = pod.requests
    assert request.body == b"{}"
    expected = AUTHORIZED + b"X-Own: spaced\r\nX-Request-Id: mine\r\nconnection: close\r\ncontent-length: 2\r\n\r\n"
    assert request.head == expected


def test_requests_of_claude_code_and_codex_reach_the_pod(gateway: Gateway) -> None:
    gateway.endpoint("agents")
    with ready_pod(gateway, "agents") as pod:
        for recording in read_recordings():
            pod.requests.clear()
            status, _, _ = send(gateway.port, "POST", f"/v2/agents/openai{recording.target}", recording.body)
            (request,) = pod.requests
            assert (status, json.loads(request.body)) == (200, recording.body), recording.name
            line = request.head.partition(b"\r\n")[0].decode()
            assert line.endswith(f"{recording.target} HTTP/1.1"), line


def test_a_response_sent_before_the_body_is_read_is_not_cut(gateway: Gateway) -> None:
    port = gateway.endpoint("early")

    async def answer_early(exchange: Exchange) -> None:
        await canned_pod.reply(exchange, 413, {"error": {"message": "too large"}})

    async def stream_early(exchange: Exchange) -> None:
        await canned_pod.stream(exchange, pause=0.02)

    with ready_pod(gateway, "early") as pod:
        body = chat(messages=[{"role": "user", "content": "x" * (20 << 20)}])
        for answer, expected in ((answer_early, b"too large"), (stream_early, b"[DONE]")):
            pod.answer = answer
            _, _, got = send(port, "POST", "/v1/chat/completions", body)
            assert expected in got


def test_a_client_that_disconnects_ends_the_generation(gateway: Gateway) -> None:
    port = gateway.endpoint("hangs-up")
    cut = threading.Event()

    async def stream_on(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.send(canned_pod.STREAM_HEAD)
        try:
            while True:
                await exchange.send(canned_pod.event("more "))
                await asyncio.sleep(0.01)
        except ConnectionError:
            cut.set()

    with ready_pod(gateway, "hangs-up") as pod:
        pod.answer = stream_on
        body = json.dumps(chat(stream=True)).encode()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(AUTHORIZED + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            assert connection.recv(10)
        assert cut.wait(2)


def test_a_web_socket_starts_the_endpoint_waits_and_relays_both_ways(gateway: Gateway) -> None:
    port = gateway.endpoint("socket")

    async def echo(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while data := await exchange.reader.read(100):
            await exchange.send(data.upper())

    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, CannedPod() as pod:
        head = AUTHORIZED.replace(b"POST /v1/chat/completions", b"GET /v1/realtime?model=%s" % MODEL.encode())
        connection.sendall(head + upgrade)
        wait_for(lambda: gateway.replicas("socket") == 1, "the endpoint is started")
        pod.answer = echo
        gateway.pods("socket", pod)
        answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert answer.endswith(b"\r\nx-runpod-worker-id: socket-6d8f-pod0\r\n\r\n")
        for word in (b"hello", b"again"):
            connection.sendall(word)
            assert connection.recv(100) == word.upper()


def test_a_slow_client_slows_the_pod_down(gateway: Gateway) -> None:
    """A pod may send ahead of its client only the bytes that fit into sockets and one buffer."""
    port = gateway.endpoint("slow-client")
    sent = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.read_body()
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (256 << 20))
        for _ in range(256):
            await exchange.send(b"x" * (1 << 20))
            sent += 1

    with ready_pod(gateway, "slow-client") as pod:
        pod.answer = flood
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(AUTHORIZED + b"Content-Length: 2\r\n\r\n{}")
            wait_for(lambda: sent, "the pod has begun")
            before = -1
            while sent != before:
                before = sent
                time.sleep(0.3)
            assert sent < 64
            received = 0
            while data := connection.recv(1 << 20):
                received += len(data)
        assert received > 256 << 20


def test_unread_responses_use_at_most_the_share_of_a_namespace(
    gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The gateway drops clients that read nothing before they use more memory. Other clients notice nothing."""
    log = tmp_path_factory.mktemp("unread") / "log"
    gateway.endpoint("unread")

    async def flood(exchange: Exchange) -> None:
        await exchange.read_body()
        await exchange.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await exchange.send(b"x" * (1 << 20))

    with (
        running_gateway(gateway.kubectl, gateway.system, log, kept_bytes=1 << 20) as second,
        ready_pod(gateway, "unread") as pod,
        ExitStack() as clients,
    ):
        wait_until_listed(second, "unread", pod)
        pod.answer = flood
        connections = [clients.enter_context(socket.create_connection(("127.0.0.1", second.port))) for _ in range(30)]
        for each in connections:
            each.sendall(AUTHORIZED.replace(b" /v1", b" /v2/unread/openai/v1") + b"Content-Length: 2\r\n\r\n{}")

        def kept() -> float:
            return second.metric("forebay_gateway_kept_bytes")

        def connected() -> float:
            return second.metric("forebay_gateway_connections")

        wait_for(lambda: kept() > 0 and connected() < 20, "some connections are kept and some were closed")
        assert kept() <= 4 << 20, "the share of any namespace"
        clients.close()
        wait_for(lambda: kept() == 0, "all connections are closed")


def test_a_pod_that_refuses_connections_is_skipped(gateway: Gateway) -> None:
    gateway.endpoint("half")
    with CannedPod() as pod:
        with CannedPod() as gone:
            gateway.pods("half", pod, gone)
            wait_until_listed(gateway, "half", gone)
        assert [ask(gateway.client(gateway.url("half"))) for _ in range(10)] == [TEXT] * 10


def ask_worker(gateway: Gateway, name: str, worker: str, **more: Any) -> tuple[int, str, bytes]:
    """Status, worker and body of the response to a request that selects a worker."""
    head = AUTHORIZED.replace(b" /v1", f" /v2/{name}/openai/v1".encode())
    head += f"X-Runpod-Worker-Id: {worker}\r\n".encode() if worker else b""
    body = json.dumps(chat(**more)).encode()
    answer = raw(gateway.port, head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    named = [line.partition(": ")[2] for line in lines if line.lower().startswith("x-runpod-worker-id: ")]
    assert len(named) <= 1, lines
    return int(lines[0].split()[1]), named[0] if named else "", answer


def test_a_response_names_its_pod_and_a_request_can_select_it(gateway: Gateway) -> None:
    gateway.endpoint("pinned")
    gateway.endpoint("neighbour")
    one, two = pod_name("pinned", 0), pod_name("pinned", 1)
    with CannedPod() as first, CannedPod() as second, ready_pod(gateway, "neighbour") as other:
        gateway.pods("pinned", first, second)
        for pod in (first, second):
            wait_until_listed(gateway, "pinned", pod)
        for worker in (one, two, f"strict {one}", f"strict-resume {two}"):
            for stream in (False, True):
                asked = [ask_worker(gateway, "pinned", worker, stream=stream)[:2] for _ in range(6)]
                assert asked == [(200, worker.split()[-1])] * 6
        assert {ask_worker(gateway, "pinned", "")[1] for _ in range(30)} <= {one, two}
        for worker in ("gone", pod_name("neighbour"), "a b", "x" * 10_000, "\xff", "../..", "strict"):
            status, named, _ = ask_worker(gateway, "pinned", worker)
            assert (status, named in (one, two)) == (200, True), worker
        for worker in ("strict gone", f"strict {pod_name('neighbour')}", "strict-resume a?", "strict a b"):
            status, named, answer = ask_worker(gateway, "pinned", worker)
            assert (status, named, b"affinity_worker_gone" in answer) == (404, "", True), worker
        assert not other.requests, "a pod of another endpoint is never reached"
        gateway.kubectl.run("delete", "endpointslice", "pinned-pod1")
        wait_for(lambda: ask_worker(gateway, "pinned", two)[1] == one, "another pod replaces it")
        assert ask_worker(gateway, "pinned", f"strict {two}")[0] == 404


def test_a_request_for_a_removed_pod_starts_no_pod(gateway: Gateway) -> None:
    gateway.endpoint("unwoken")
    status, _, answer = ask_worker(gateway, "unwoken", f"strict-resume {pod_name('unwoken')}")
    assert (status, b"affinity_worker_gone" in answer) == (404, True)
    assert (gateway.replicas("unwoken"), gateway.held("unwoken")) == (0, {})


def test_a_request_for_one_pod_waits_until_that_pod_is_ready(
    gateway: Gateway, impatient_gateway: Gateway, pool: ThreadPoolExecutor
) -> None:
    gateway.endpoint("patient")
    ours = pod_name("patient", 1)
    with CannedPod() as first, CannedPod() as second:
        gateway.pods("patient", first, second)
        wait_until_listed(gateway, "patient", second)
        listed = {"addresses": [second.host], "targetRef": {"kind": "Pod", "name": ours}}

        def becomes(ready: bool) -> None:
            gateway.list_pods("patient-pod1", "patient", second.port, [{**listed, "conditions": {"ready": ready}}])

        def is_answered_by_another(one: Gateway) -> bool:
            return ask_worker(one, "patient", ours)[:2] == (200, pod_name("patient"))

        becomes(False)
        for each in (gateway, impatient_gateway):
            wait_for(partial(is_answered_by_another, each), "it is not ready")
        status, _, answer = ask_worker(impatient_gateway, "patient", f"strict {ours}")
        assert (status, b"worker_timeout" in answer) == (400, True), "after hold_seconds"
        waiting = pool.submit(ask_worker, gateway, "patient", f"strict {ours}")
        wait_for(lambda: gateway.held("patient")["held"] == 1, "it waits")
        becomes(True)
        assert waiting.result(10)[:2] == (200, ours)


def test_a_conversation_stays_on_its_pod(gateway: Gateway) -> None:
    gateway.endpoint("talk")
    with CannedPod() as one, CannedPod() as two:
        gateway.pods("talk", one, two)
        wait_until_listed(gateway, "talk", one)
        wait_until_listed(gateway, "talk", two)
        client = gateway.client(gateway.url("talk"))
        used = set()
        for number in range(12):
            turns: Any = [{"role": "user", "content": f"conversation {number}"}]
            counts = []
            for _ in range(3):
                before = len(one.requests)
                client.chat.completions.create(model=MODEL, messages=turns)
                counts.append(len(one.requests) - before)
                turns += [{"role": "assistant", "content": TEXT}, {"role": "user", "content": "more"}]
            assert len(set(counts)) == 1
            used |= set(counts)
        assert used == {0, 1}


def test_a_gateway_that_is_killed_loses_only_its_own_connections(
    gateway: Gateway, pool: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> None:
    gateway.endpoint("killed")
    log = tmp_path_factory.mktemp("killed") / "log"
    with running_gateway(gateway.kubectl, gateway.system, log) as second:
        lost = pool.submit(ask, second.client(second.url("killed")))
        kept = pool.submit(ask, gateway.client(gateway.url("killed")))
        wait_for(
            lambda: second.held("killed").get("held") == gateway.held("killed").get("held") == 1,
            "both gateways have pending requests",
        )
        second.process.kill()
        with pytest.raises(openai.APIConnectionError):
            lost.result(10)
        with CannedPod() as pod:
            gateway.pods("killed", pod)
            assert kept.result(10) == TEXT
            assert len(pod.requests) == 1


def test_sigterm_lets_streams_finish_and_rejects_new_requests(
    gateway: Gateway, pool: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> None:
    log = tmp_path_factory.mktemp("drained") / "log"
    gateway.endpoint("drains")

    may_end = threading.Event()

    async def until_it_may_end(exchange: Exchange) -> None:
        await exchange.read_body()
        await canned_pod.stream(exchange, may_end=may_end)

    with running_gateway(gateway.kubectl, gateway.system, log) as second, ready_pod(gateway, "drains") as pod:
        pod.answer = until_it_may_end
        streaming = pool.submit(ask_streamed, second.client(second.url("drains")))
        wait_for(lambda: len(pod.requests) == 1, "the stream has started")
        second.process.send_signal(signal.SIGTERM)
        wait_for(lambda: send(second.ops_port, "GET", "/readyz")[0] == 503, "the server drains")
        with pytest.raises(openai.InternalServerError, match="shutting down") as raised:
            ask(second.client(second.url("drains")))
        assert raised.value.response.headers["retry-after"] == "1"
        may_end.set()
        assert streaming.result(10) == TEXT
        assert second.process.wait(timeout=10) == 0
    assert "Traceback" not in log.read_text()
