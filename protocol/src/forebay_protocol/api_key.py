"""Reads the API key of a request, and defines the minimum length of keys.

Gateway and server read requests with this module. Operator and server ignore shorter keys.
"""

MIN_KEY_LENGTH = 16
"""The fewest characters of a key. Shorter keys could be guessed, and are not valid."""


def read_key(authorization: str, x_api_key: str) -> str:
    """Read a client's key from the values of its two headers. Returns "" if there is none.

    OpenAI's clients send "Authorization: Bearer KEY", Anthropic's "x-api-key: KEY". Code for RunPod also sends
    "Authorization: KEY", which RunPod's API accepts.
    """
    if not authorization.strip():
        return x_api_key.strip()
    scheme, *key = authorization.split(maxsplit=1)
    if scheme.lower() == "bearer":
        return key[0].strip() if key else ""
    return "" if key else scheme
