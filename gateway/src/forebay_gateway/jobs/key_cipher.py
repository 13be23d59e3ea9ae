"""Encrypts API keys for the job store, which keeps each API key until a pod has run the job.

The Valkey job store and the batch processor call it. `job_services` creates it.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable

from cryptography.fernet import Fernet, InvalidToken


class KeyCipher:
    """Encrypts API keys under the key of the installation.

    `secret` returns the key of the installation, which only gateways and operators have. It returns b"" while that key
    is not known.
    """

    def __init__(self, secret: Callable[[], bytes]) -> None:
        self._secret = secret

    def encrypt(self, api_key: str, owner: str) -> str:
        """Encrypt an API key for one owner, such as a job of an endpoint. Returns "" if `api_key` is "".

        Also returns "" while the key of the installation is not known. The gateway accepts no API key then, so only
        endpoints without keys have jobs.
        """
        text = f"{owner}\n{api_key}".encode()
        return self._fernet().encrypt(text).decode() if api_key and self._secret() else ""

    def decrypt(self, encrypted: str, owner: str) -> str:
        """Decrypt an API key. Returns "" if the API key was encrypted under another key or for another owner.

        Pods then answer with 401.
        """
        try:
            stored_owner, _, api_key = (
                self._fernet().decrypt(encrypted.encode()).decode().partition("\n") if encrypted else ("", "", "")
            )
        except InvalidToken:
            return ""
        return api_key if stored_owner == owner else ""

    def _fernet(self) -> Fernet:
        derived = hmac.new(self._secret(), b"forebay: API keys of jobs", hashlib.sha256).digest()
        return Fernet(base64.urlsafe_b64encode(derived))
