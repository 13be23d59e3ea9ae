"""The interface of a check of keys or tokens."""

from typing import Protocol


class KeyCheck(Protocol):
    """A key ring, or its substitute in a test."""

    def accepts(self, key: str) -> bool:
        """Whether `key` is valid now."""
