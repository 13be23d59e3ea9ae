"""Do jobs by RunPod's own SDK, of which only the base URL is changed: python jobs.py BASE ENDPOINT KEY MODEL

Prints one JSON object with what each call gave.
"""

import asyncio
import json
import sys
import time
from typing import Any

import runpod  # type: ignore[import-not-found,unused-ignore]
from runpod import http_client  # type: ignore[import-not-found,unused-ignore]

QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
PROMPT = {**QUESTION, "sampling_params": {"temperature": 0}}
LONG = {**PROMPT, "sampling_params": {"max_tokens": 2000, "ignore_eos": True}, "stream": True}


async def run_async(name: str) -> dict[str, Any]:
    """The same by the asynchronous half of the SDK, which puts the input into a request itself."""
    async with http_client.AsyncClientSession() as session:
        endpoint = runpod.AsyncioEndpoint(name, session)
        job = await endpoint.run(PROMPT)
        output = await job.output(timeout=120)
        streamed = await endpoint.run({**PROMPT, "stream": True, "sampling_params": {"max_tokens": 16}})
        items = [item async for item in streamed.stream()]
        return {"output": output, "status": await job.status(), "stream": items, "cancel": await job.cancel()}


def main() -> None:
    base, name, key, model = sys.argv[1:]
    runpod.endpoint_url_base, runpod.api_key = base, key
    endpoint = runpod.Endpoint(name)
    client = endpoint.rp_client
    results: dict[str, Any] = {"sync": endpoint.run_sync({"input": PROMPT}, timeout=120)}
    results["raw sync"] = client.post(f"{name}/runsync", {"input": PROMPT}, timeout=120)

    job = endpoint.run(
        {
            "input": {
                "openai_route": "/v1/chat/completions",
                "openai_input": {"model": model, "temperature": 0, **QUESTION},
            }
        }
    )
    results["output"] = job.output(timeout=120)
    results["status"] = job.status()
    results["raw status"] = client.get(f"{name}/status/{job.job_id}")
    results["raw run"] = client.post(f"{name}/run", {"input": PROMPT})

    streamed = {**PROMPT, "stream": True, "sampling_params": {"max_tokens": 16}}
    results["stream"] = list(endpoint.run({"input": streamed}).stream())

    results["async"] = asyncio.run(run_async(name))

    long = endpoint.run({"input": LONG})
    while not results.get("raw stream", {}).get("stream"):
        time.sleep(0.1)
        results["raw stream"] = client.get(f"{name}/stream/{long.job_id}")
    began = time.monotonic()
    results["cancel"] = long.cancel()
    results["cancelled"] = long.status()
    results["cancel seconds"] = time.monotonic() - began
    results["purge"] = endpoint.purge_queue()
    results["health"] = endpoint.health()
    try:
        runpod.Endpoint(name, api_key="fb_this-is-not-the-right-key").health()
    except RuntimeError as error:
        results["wrong key"] = str(error)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
