"""Send requests all at once, every other one streamed: python burst.py URL KEY MODEL COUNT TEXT [RETRIES]

Each has its own official client with its defaults, except for RETRIES if given. Each response must
be exactly TEXT, or any text if TEXT is empty. Prints one JSON object: how many were sent, how
many answered, what failed, and the longest time to an answer in seconds.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import openai

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def ask(client: openai.OpenAI, model: str, stream: bool) -> str:
    """The text of one answer."""
    asked = {"model": model, "messages": QUESTION, "max_completion_tokens": 200}
    if not stream:
        return client.chat.completions.create(**asked).choices[0].message.content  # type: ignore[call-overload,no-any-return]
    chunks = client.chat.completions.create(stream=True, **asked)  # type: ignore[call-overload]
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def main() -> None:
    url, key, model, count, wanted, *retries = sys.argv[1:]
    options = {"max_retries": int(retries[0])} if retries else {}

    def send(number: int) -> tuple[str, float]:
        began = time.monotonic()
        try:
            found = ask(openai.OpenAI(base_url=url, api_key=key, **options), model, bool(number % 2))  # type: ignore[arg-type]
            trouble = "" if found == wanted or (found and not wanted) else f"another answer: {found}"
        except Exception as error:  # noqa: BLE001  whatever it is, it is counted
            trouble = f"{type(error).__name__}: {error}"
        return f"{'stream' if number % 2 else 'plain'} {number}: {trouble}" if trouble else "", time.monotonic() - began

    with ThreadPoolExecutor(int(count)) as pool:
        done = list(pool.map(send, range(int(count))))
    failed = [trouble for trouble, _ in done if trouble]
    longest = round(max(seconds for _, seconds in done), 1)
    print(json.dumps({"sent": len(done), "answered": len(done) - len(failed), "failed": failed, "longest": longest}))


if __name__ == "__main__":
    main()
