"""The API keys: files in a mounted Secret with one valid key each. Changed files are read again."""

import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from pathlib import Path

from forebay_protocol.api_key import MIN_KEY_LENGTH
from forebay_server.failure import Failure, StartError

logger = logging.getLogger(__name__)

RECHECK_SECONDS = 1.0
"""The least seconds between two checks of the folder. The kubelet itself takes up to a minute to update it."""

Signature = tuple[tuple[str, int, int], ...]


class KeyRing:
    """The keys that are valid now. It stores only their SHA-256 digests."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the keys. Raises StartError (InvalidKeys) if the folder has no key, or one that is too short."""
        self._folder = folder
        self._clock = clock
        self._checked = clock()
        try:
            self._signature = _signature(folder)
            keys = _read(folder)
        except OSError as error:
            raise _invalid(f"The keys in {folder} cannot be read: {error}.") from error
        short = [name for name, key in keys.items() if len(key) < MIN_KEY_LENGTH]
        if short:
            raise _invalid(f"The key in {folder / short[0]} has fewer than {MIN_KEY_LENGTH} characters.")
        if not keys:
            raise _invalid(f"There is no key in {folder}.")
        self._digests = _digests(keys)

    def accepts(self, key: str) -> bool:
        """Whether `key` is valid now. The time of the check does not depend on the keys."""
        self._refresh()
        digest = hashlib.sha256(key.encode()).digest()
        matches = [hmac.compare_digest(digest, valid) for valid in self._digests]
        return any(matches)

    def _refresh(self) -> None:
        """Read changed files. A key that is too short is not valid. If the folder cannot be read, no key is valid."""
        now = self._clock()
        if now - self._checked < RECHECK_SECONDS:
            return
        self._checked = now
        try:
            signature = _signature(self._folder)
            if signature == self._signature:
                return
            keys = _read(self._folder)
        except OSError as error:
            logger.error("The keys in %s cannot be read, so no key is valid: %s", self._folder, error)
            self._signature, self._digests = (), []
            return
        for name, key in keys.items():
            if len(key) < MIN_KEY_LENGTH:
                logger.error("The key in %s has fewer than %d characters: ignored", self._folder / name, MIN_KEY_LENGTH)
        self._digests = _digests(keys)
        self._signature = signature
        logger.info("The keys in %s changed: %d valid now", self._folder, len(self._digests))


def has_keys(folder: Path) -> bool:
    """Whether the folder has a key. A missing optional Secret is an empty folder."""
    return folder.is_dir() and bool(_key_files(folder))


def _key_files(folder: Path) -> list[Path]:
    """The Secret's files. Files whose names begin with two dots are the kubelet's own."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".."))


def _signature(folder: Path) -> Signature:
    """A value that changes when a key file does. The kubelet swaps a link, so a name then refers to another file."""
    states = ((path.name, path.stat()) for path in _key_files(folder))
    return tuple((name, state.st_ino, state.st_mtime_ns) for name, state in states)


def _read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8").strip() for path in _key_files(folder)}


def _digests(keys: dict[str, str]) -> list[bytes]:
    return [hashlib.sha256(key.encode()).digest() for key in keys.values() if len(key) >= MIN_KEY_LENGTH]


def _invalid(message: str) -> StartError:
    remedy = f"Each value of the Secret must be one key of at least {MIN_KEY_LENGTH} characters."
    return StartError(Failure("InvalidKeys", message, remedy))
