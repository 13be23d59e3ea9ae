"""One HTTP request by the standard library, whatever its status; programs for a GPU machine use it too."""

import urllib.error
import urllib.request


def fetch(request: urllib.request.Request | str, timeout: float) -> tuple[int, str]:
    """The status and the text of the answer. Raises OSError if the server is not there, or not in `timeout` seconds."""
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
