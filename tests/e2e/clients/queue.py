"""Submit jobs, and check their results while pods and gateways are killed: python queue.py URL KEY COUNT TEXT [WEBHOOK]

Submits COUNT jobs, sixteen at a time, polls each until it ends, and polls once more at the end. What a gateway
does not answer is requested again. Prints one JSON object: how many were accepted, their states, how many have TEXT as
their output, and how many were reported differently later.
"""

import json
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}

url, key, count, text, *webhooks = sys.argv[1:]


def ask(path: str, content: object = None) -> Any:
    """The response to one request, retried until it arrives."""
    data = None if content is None else json.dumps(content).encode()
    deadline = time.monotonic() + 240
    while True:
        request = urllib.request.Request(f"{url}/{path}", data, {"Authorization": f"Bearer {key}"})
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return json.load(answer)
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError) and error.code not in (429, 502, 503):
                raise
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def do(number: int) -> dict[str, Any]:
    """One job; what /status says when it is over."""
    content = {"input": {"prompt": f"Question {number}", "sampling_params": {"max_tokens": 200}}}
    job = ask("run", {**content, "webhook": "".join(webhooks)})["id"]
    while (result := ask(f"status/{job}"))["status"] not in FINAL:
        time.sleep(0.2)
    return dict(result)


with ThreadPoolExecutor(16) as pool:
    done = list(pool.map(do, range(int(count))))
    again = list(pool.map(lambda result: ask(f"status/{result['id']}"), done))
right = sum(result.get("output", [{}])[0].get("choices", [{}])[0].get("tokens") == [text] for result in done)
states = Counter(result["status"] for result in done)
print(
    json.dumps({"accepted": len(done), "states": states, "right": right, "changed": sum(map(dict.__ne__, done, again))})
)
