"""Send requests to an ops port from another pod: control.py HOST TOKEN [METHOD PATH]…; prints a status for each.

A port that cannot be reached has the status 0. Without a token if TOKEN is empty."""

import json
import sys
import urllib.error
import urllib.request


def ask(host: str, token: str, method: str, path: str) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = b"" if method == "POST" else None
    request = urllib.request.Request(f"http://{host}{path}", body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


host, token, *asked = sys.argv[1:]
print(json.dumps([ask(host, token, method, path) for method, path in zip(asked[::2], asked[1::2], strict=True)]))
