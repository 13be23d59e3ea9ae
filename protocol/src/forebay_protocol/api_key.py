"""Where a request has its key, and how long a key is at least."""

MIN_KEY_LENGTH = 16
"""Characters of a key. A shorter one could be guessed, and is no key."""


def read_key(authorization: str, x_api_key: str) -> str:
    """The key that a client sent, by the values of its two headers; "" for none.

    OpenAI's clients send "Authorization: Bearer KEY", Anthropic's "x-api-key: KEY". Code for RunPod also sends
    "Authorization: KEY", which its API takes.
    """
    if not authorization.strip():
        return x_api_key.strip()
    scheme, *key = authorization.split(maxsplit=1)
    if scheme.lower() == "bearer":
        return key[0].strip() if key else ""
    return "" if key else scheme
