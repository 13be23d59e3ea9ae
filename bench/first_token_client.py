"""Runs in a pod: python first_token_client.py URL KEY MODEL. Sends one streamed request at once; then reads the address
of the pod that starts from standard input, and asks that pod without a pause whether it is ready. Prints when what
happened, in seconds of this machine's clock."""

import http.client
import json
import sys
import threading
import time
import urllib.parse

times: dict[str, float] = {}


def ask(url: str, key: str, model: str) -> None:
    """Send the request; the first event that is no comment has the first token."""
    target = urllib.parse.urlsplit(url)
    body = {"model": model, "stream": True, "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection(target.hostname or "", target.port or 80, timeout=300)
    times["sent"] = time.time()
    connection.request("POST", f"{target.path}/chat/completions", json.dumps(body), headers)
    reply = connection.getresponse()
    if reply.status != 200:
        raise SystemExit(f"{reply.status} {reply.read()!r}")
    while True:
        line = reply.readline()
        if line.startswith(b"data: ") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
            times["token"] = time.time()
            break
    reply.read()
    times["end"] = time.time()


def wait_until_ready(host: str) -> None:
    """Ask the pod's ops port until it says that it is ready."""
    while True:
        try:
            connection = http.client.HTTPConnection(host, 8001, timeout=1)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                times["ready"] = time.time()
                return
        except OSError:
            times["refused"] = time.time()
        time.sleep(0.01)


asking = threading.Thread(target=ask, args=sys.argv[1:4])
asking.start()
wait_until_ready(sys.stdin.readline().strip())
asking.join()
print(json.dumps(times))
