"""Ask an endpoint a question as a job of RunPod's API and print how it ended, with the answer.

    export RUNPOD_ENDPOINT_BASE_URL=http://localhost:8000/v2 RUNPOD_API_KEY=fb_...
    python job.py smollm2 "What is a dam?"

The two variables are those of RunPod's client: https://github.com/runpod/runpod-python. This needs Python alone.
"""

import json
import os
import sys
import time
import urllib.request
from typing import Any

POLL_INTERVAL = 0.5
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")


def main() -> int:
    """Submit the job and wait for its end; returns the exit code."""
    endpoint, question = sys.argv[1:]
    sampling = {"temperature": 0, "max_tokens": 128}
    content = {"messages": [{"role": "user", "content": question}], "sampling_params": sampling}
    job = call(f"{endpoint}/run", {"input": content})
    while job["status"] not in FINAL:
        time.sleep(POLL_INTERVAL)
        job = call(f"{endpoint}/status/{job['id']}")
    tokens = [text for item in job.get("output") or [] for choice in item["choices"] for text in choice["tokens"]]
    print(f"{job['status']}: {''.join(tokens) or job.get('error', '')}")
    return 0 if job["status"] == "COMPLETED" else 1


def call(path: str, content: object = None) -> Any:
    """The JSON that one request is answered with; POST where there is content. Raises urllib.error.HTTPError."""
    data = None if content is None else json.dumps(content).encode()
    headers = {"Authorization": f"Bearer {os.environ['RUNPOD_API_KEY']}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{os.environ['RUNPOD_ENDPOINT_BASE_URL']}/{path}", data, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main())
