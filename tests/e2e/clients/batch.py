"""Run a batch by the official client: python batch.py URL KEY MODEL. Prints one JSON object with its results."""

import json
import sys
import time
from typing import Any

import openai

url, key, model = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key=key)
ASKED = {"chat": "What is the capital of France?", "again": "What is the capital of Italy?"}


def line(name: str, **body: object) -> str:
    request = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": {"model": model, **body}}
    return json.dumps(request)


lines = [line(name, messages=[{"role": "user", "content": text}], temperature=0) for name, text in ASKED.items()]
lines.append(line("wrong", messages="none"))
file = client.files.create(file=("requests.jsonl", "\n".join(lines).encode()), purpose="batch")
batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
while batch.status in ("validating", "in_progress", "finalizing"):
    time.sleep(0.5)
    batch = client.batches.retrieve(batch.id)
outcome: dict[str, Any] = {"batch": batch.model_dump(), "listed": [each.id for each in client.batches.list()]}
for name, found in (("output", batch.output_file_id), ("errors", batch.error_file_id)):
    outcome[name] = [json.loads(each) for each in client.files.content(found or "").text.splitlines()]
outcome["deleted"] = [client.files.delete(each.id).deleted for each in client.files.list()]
print(json.dumps(outcome))
