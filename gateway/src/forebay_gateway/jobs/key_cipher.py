"""Encrypts API keys that are kept outside of the gateway until a pod has run a job with them."""

import base64
import hashlib
import hmac
from collections.abc import Callable

from cryptography.fernet import Fernet, InvalidToken


class KeyCipher:
    """`secret` gives the key of the installation, which only gateways and operators have; b"" before it is known."""

    def __init__(self, secret: Callable[[], bytes]) -> None:
        self._secret = secret

    def encrypt(self, api_key: str, owner: str) -> str:
        """What may be kept of an API key for its owner alone, such as a job of an endpoint. Where there is no secret no
        endpoint asks for a key, and none is kept."""
        text = f"{owner}\n{api_key}".encode()
        return self._fernet().encrypt(text).decode() if api_key and self._secret() else ""

    def decrypt(self, encrypted: str, owner: str) -> str:
        """The API key; "" where another secret or another owner encrypted it, which pods answer with 401."""
        try:
            kept, _, api_key = (
                self._fernet().decrypt(encrypted.encode()).decode().partition("\n") if encrypted else ("", "", "")
            )
        except InvalidToken:
            return ""
        return api_key if kept == owner else ""

    def _fernet(self) -> Fernet:
        derived = hmac.new(self._secret(), b"forebay: API keys of jobs", hashlib.sha256).digest()
        return Fernet(base64.urlsafe_b64encode(derived))
