"""SIGTERM under load, on a real server with the canned executor: no stream is cut, no new request is accepted."""

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from tests.vllm.server import Server
from tests.vllm.test_liveness import CANNED

STREAMS = 200
TOKENS = 200


class Stream:
    """One streamed request in its own thread."""

    def __init__(self, server: Server) -> None:
        self.tokens = 0
        self.done = False
        self.error = ""
        self._server = server
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(120)

    def _run(self) -> None:
        body = {"prompt": "Hello", "max_tokens": TOKENS, "ignore_eos": True, "stream": True}
        body["stream_options"] = {"include_usage": True}
        try:
            with post(self._server, body) as answer:
                for line in answer:
                    self._read(line.strip())
        except OSError as error:
            self.error = repr(error)

    def _read(self, line: bytes) -> None:
        if line == b"data: [DONE]":
            self.done = True
        elif line.startswith(b"data: ") and (usage := json.loads(line[6:]).get("usage")):
            self.tokens = usage["completion_tokens"]


def post(server: Server, body: dict[str, object]) -> "urllib.response.addinfourl":
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    answer: urllib.response.addinfourl = urllib.request.urlopen(request, timeout=120)
    return answer


def test_a_drain_cuts_no_stream_and_accepts_no_request(serve: Callable[..., Server]) -> None:
    server = serve(**CANNED, MAX_NUM_SEQS="256")
    server.wait_for("/readyz")
    streams = [Stream(server) for _ in range(STREAMS)]
    while in_flight(server) < STREAMS:
        time.sleep(0.1)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("/readyz", 503, 10)
    assert server.ops("/livez")[0] == 200, "a draining pod is not unhealthy"
    refusals = []
    while in_flight(server):
        try:
            post(server, {"prompt": "Hello", "max_tokens": 1}).close()
            raise AssertionError("a new request came in")
        except urllib.error.HTTPError as error:
            with error:
                refusals.append((error.code, error.headers["Retry-After"], error.headers["Connection"]))
        except OSError:
            break  # the port is closed: the server has ended
        time.sleep(0.2)
    for stream in streams:
        stream.join()
    assert set(refusals) == {(503, "1", "close")}
    assert len(refusals) > 3
    assert [stream.error for stream in streams if stream.error] == []
    assert {(stream.done, stream.tokens) for stream in streams} == {(True, TOKENS)}
    assert server.process.wait(60) == 0


def in_flight(server: Server) -> int:
    """0 once the server has ended."""
    try:
        _, metrics = server.ops("/metrics")
    except OSError:
        return 0
    (line,) = [line for line in metrics.splitlines() if line.startswith("forebay_requests_in_flight ")]
    return int(float(line.split()[1]))
