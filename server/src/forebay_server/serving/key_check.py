"""Who asks whether a key, or a token, is valid."""

from typing import Protocol


class KeyCheck(Protocol):
    """A key ring, or what a test has in its place."""

    def accepts(self, key: str) -> bool:
        """Whether `key` is valid now."""
