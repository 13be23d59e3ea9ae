"""The curl lines of RunPod's documentation, as they are but for the host, by curl itself.

Source: docs.runpod.io/serverless/endpoints/operation-reference and docs.runpod.io/serverless/vllm/openai-compatibility.
The reference sends the key bare, other pages send it as a bearer token. Most of its POST requests have no body, and so
neither Content-Length nor Content-Type.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.canned_pod import TEXT, Exchange, complete, reply
from tests.integration.gateway_process import KEY, MODEL, Gateway
from tests.integration.job_pods import finish
from tests.integration.openai_calls import ready_pod

ITEM = {"choices": [{"tokens": ["Hi"]}], "usage": {"input": 1, "output": 1}}

RUNSYNC = """curl --request POST \\
     --url https://api.runpod.ai/v2/$ENDPOINT_ID/runsync \\
     -H "accept: application/json" \\
     -H "authorization: $RUNPOD_API_KEY" \\
     -H "content-type: application/json" \\
     -d '{ "input": {  "prompt": "Hello, world!" }}'"""

RUN = """curl --request POST \\
     --url https://api.runpod.ai/v2/$ENDPOINT_ID/run \\
     --header 'accept: application/json' \\
     --header "authorization: $RUNPOD_API_KEY" \\
     --header 'content-type: application/json' \\
     --data '{"input": {"prompt": "Hello, world!"}}'"""

STATUS = """curl --request GET \\
     --url https://api.runpod.ai/v2/$ENDPOINT_ID/status/$JOB_ID \\
     -H "authorization: $RUNPOD_API_KEY\""""

STREAM = """curl --request GET \\
     --url https://api.runpod.ai/v2/$ENDPOINT_ID/stream/$JOB_ID \\
     -H "accept: application/json" \\
     -H "authorization: $RUNPOD_API_KEY\""""

CANCEL = """curl --request POST \\
     --url https://api.runpod.ai/v2/$ENDPOINT_ID/cancel/$JOB_ID \\
     -H "authorization: $RUNPOD_API_KEY\""""

RETRY = """curl --request POST \\
     --url https://api.runpod.ai/v2/$ENDPOINT_ID/retry/$JOB_ID \\
     -H "authorization: $RUNPOD_API_KEY\""""

PURGE = """curl --request POST \\
     --url https://api.runpod.ai/v2/$ENDPOINT_ID/purge-queue \\
     -H "authorization: $RUNPOD_API_KEY\""""

HEALTH = """curl --request GET \\
     --url https://api.runpod.ai/v2/$ENDPOINT_ID/health \\
     -H "authorization: $RUNPOD_API_KEY\""""

CHAT = """curl -X POST "https://api.runpod.ai/v2/$ENDPOINT_ID/openai/v1/chat/completions" \\
     -H "Authorization: $RUNPOD_API_KEY" \\
     -H "Content-Type: application/json" \\
     -d '{"model": "org/model", "messages": [{"role": "user", "content": "Hello"}], "stream": false}'"""

MODELS = """curl "https://api.runpod.ai/v2/$ENDPOINT_ID/openai/v1/models" -H "Authorization: $RUNPOD_API_KEY\""""

KEYS = pytest.mark.parametrize("key", [KEY, f"Bearer {KEY}"], ids=["bare", "bearer"])


async def answer(exchange: Exchange) -> None:
    """A pod that does jobs, and chats."""
    line = exchange.head.split(b"\r\n")[0]
    if line.split()[1].endswith(b"/models"):
        await reply(exchange, 200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
    elif line.split()[1].endswith(b"/chat/completions"):
        await complete(exchange)
    else:
        await exchange.read_body()
        await finish(exchange, ITEM)


@pytest.fixture(scope="module")
def documented(gateway: Gateway) -> Iterator[Gateway]:
    """A gateway with an endpoint that is up."""
    assert shutil.which("curl"), "curl is not installed"
    gateway.endpoint("documented")
    with ready_pod(gateway, "documented") as pod:
        pod.answer = answer
        yield gateway


def run(line: str, gateway: Gateway, key: str, job: str = "") -> tuple[int, Any]:
    """The status and the JSON of the answer to a line of the documentation, in a shell."""
    line = line.replace("https://api.runpod.ai", f"http://127.0.0.1:{gateway.port}")
    variables = {"ENDPOINT_ID": "documented", "RUNPOD_API_KEY": key, "JOB_ID": job, "NO_PROXY": "*"}
    command = ["sh", "-c", f"{line} --silent --write-out '\\n%{{http_code}}' --max-time 20"]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    text, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(text)


@KEYS
def test_the_job_api_accepts_the_documented_curl_commands(documented: Gateway, key: str) -> None:
    status, returned = run(RUNSYNC, documented, key)
    assert (status, returned["status"], returned["output"]) == (200, "COMPLETED", [ITEM])
    status, returned = run(RUN, documented, key)
    assert (status, returned["status"]) == (200, "IN_QUEUE")
    job = returned["id"]
    status, returned = run(STREAM, documented, key, job)
    assert (status, returned.keys()) == (200, {"status", "stream"})
    assert run(STATUS, documented, key, job)[0] == 200
    status, returned = run(CANCEL, documented, key, job)
    assert (status, returned["id"]) == (200, job)
    status, returned = run(RETRY, documented, key, job)
    assert (status, list(returned)) == (400, ["error"]), "it did not fail"
    status, returned = run(PURGE, documented, key)
    assert (status, returned) == (200, {"removed": 0, "status": "completed"})
    status, returned = run(HEALTH, documented, key)
    assert (status, returned["workers"]["ready"]) == (200, 1)


@KEYS
def test_openais_routes_accept_the_documented_curl_commands(documented: Gateway, key: str) -> None:
    status, returned = run(CHAT, documented, key)
    assert (status, returned["choices"][0]["message"]["content"]) == (200, TEXT)
    status, returned = run(MODELS, documented, key)
    assert (status, [model["id"] for model in returned["data"]]) == (200, [MODEL])


@pytest.mark.parametrize("line", [RUNSYNC, STATUS, CANCEL, CHAT], ids=["runsync", "status", "cancel", "chat"])
@pytest.mark.parametrize("key", ["fb_wrong", "Bearer fb_wrong"])
def test_a_wrong_key_is_rejected_on_each_documented_route(documented: Gateway, line: str, key: str) -> None:
    assert run(line, documented, key, "job-1")[0] == 401
