"""Send requests until a first token arrives: python first_token.py URL KEY MODEL. Runs in a pod of the cluster.

Prints one JSON object: when the first request was sent and the first token arrived, in seconds of the machine's clock.
"""

import http.client
import json
import sys
import time
from urllib.parse import urlsplit

PAUSE = 0.02
FIRST_TOKEN_TIMEOUT = 120


def main() -> None:
    url, key, model = sys.argv[1:]
    began = time.time()
    while time.time() < began + FIRST_TOKEN_TIMEOUT:
        try:
            came = ask(url, key, model)
        except (OSError, http.client.HTTPException):
            came = None
        if came:
            print(json.dumps({"sent": began, "came": came}))
            return
        time.sleep(PAUSE)
    raise SystemExit(f"no token within {FIRST_TOKEN_TIMEOUT} s")


def ask(url: str, key: str, model: str) -> float | None:
    """The time at which the first token of a response arrived; None for an invalid response."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port or 80, timeout=FIRST_TOKEN_TIMEOUT)
    body = {"model": model, "stream": True, "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        connection.request("POST", f"{place.path}/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            return None
        while line := answer.readline():
            if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                return time.time()
    finally:
        connection.close()
    return None


if __name__ == "__main__":
    main()
