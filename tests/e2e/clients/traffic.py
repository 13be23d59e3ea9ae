"""Send requests to endpoints until standard input ends: python traffic.py MODEL URL KEY TEXT [URL KEY TEXT …]

Each endpoint has two clients at the same time. One is the official client with its defaults: it keeps its connections
and retries. The other makes a new connection for each request, and never retries. Both send a chat and
a streamed chat in turn, at most five requests in a second. They expect exactly TEXT, or any text where that is empty.
Prints one JSON object: how many were sent, how many answered, by endpoint, client and kind, and what failed.
"""

import json
import sys
import threading
import time
from collections import Counter

import openai

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]

INTERVAL = 0.2
"""Seconds between the starts of two requests of a client, so that the tested processes get CPU time."""

over = threading.Event()
sent: Counter[str] = Counter()
answered: Counter[str] = Counter()
failed: list[str] = []


def ask(client: openai.OpenAI, model: str, stream: bool) -> str:
    """The text of one answer."""
    asked = {"model": model, "messages": QUESTION, "max_completion_tokens": 200}
    if not stream:
        return client.chat.completions.create(**asked).choices[0].message.content  # type: ignore[call-overload,no-any-return]
    chunks = client.chat.completions.create(stream=True, **asked)  # type: ignore[call-overload]
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def talk(client: openai.OpenAI, name: str, model: str, wanted: str) -> None:
    """Send requests until the end."""
    while not over.is_set():
        for kind in ("chat", "stream"):
            began, trouble = time.strftime("%H:%M:%S"), ""
            due = time.monotonic() + INTERVAL
            sent[name] += 1
            try:
                found = ask(client, model, kind == "stream")
            except Exception as error:  # noqa: BLE001  whatever it is, it is counted
                found = trouble = f"{error!r}, of {error.__cause__!r}"
            if found == wanted or (found and not wanted and not trouble):
                answered[f"{name} {kind}"] += 1
            else:
                failed.append(f"{name} {kind} {began}: {found}")
            over.wait(due - time.monotonic())


def main() -> None:
    model, *rest = sys.argv[1:]
    threads = []
    for url, key, wanted in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        name = url.split("//")[1].partition(".")[0]
        fresh = openai.DefaultHttpxClient(headers={"Connection": "close"})
        clients = {
            "kept": openai.OpenAI(base_url=url, api_key=key),
            "fresh": openai.OpenAI(base_url=url, api_key=key, max_retries=0, http_client=fresh),
        }
        for kind, client in clients.items():
            threads.append(threading.Thread(target=talk, args=(client, f"{name} {kind}", model, wanted)))
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"sent": sent.total(), "answered": answered, "failed": failed}))


if __name__ == "__main__":
    main()
