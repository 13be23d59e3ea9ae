"""Downloads the model's files from the hub to the cache volume, before vLLM needs them.

huggingface_hub fetches the files. It continues after a lost connection, and keeps complete files over a restart of the
pod. It locks each file, so that pods can share a volume. This module selects the files. It measures progress on the
disk, so that downloads of other pods count too. It checks the SHA-256 of the files, because
huggingface_hub does not.
"""
# ruff: noqa: PLC0415 - huggingface_hub takes a moment to import, and is not there where the unit tests run

import errno
import hashlib
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from forebay_server.failure import EXIT_FAILURE, Failure, StartError, causes
from forebay_server.lifecycle.model_files import repository_folder
from forebay_server.lifecycle.startup import Download, Step
from forebay_server.lifecycle.state import ServerState

logger = logging.getLogger(__name__)

WEIGHTS = {
    "auto": ("*.safetensors", "*.bin", "*.pt"),
    "hf": ("*.safetensors", "*.bin", "*.pt"),
    "safetensors": ("*.safetensors",),
    "fastsafetensors": ("*.safetensors",),
    "instanttensor": ("*.safetensors",),
    "mistral": ("consolidated*.safetensors",),
    "npcache": ("*.bin",),
    "pt": ("*.pt",),
}
"""--load-format -> patterns of weight files. The first pattern that matches a file applies, as in vLLM 0.32 and 0.33
(model_executor/model_loader/default_loader.py). With another format vLLM fetches the weights itself."""

NOT_WEIGHTS = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "trainer_state.json")
"""Files of a training, which vLLM ignores too."""

SMALL_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.py", "*.yaml")
"""Patterns of configuration, tokenizer and chat template."""

NO_HUB = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_USE_MODELSCOPE")
"""Variables that keep vLLM from using the hub."""

UNREACHABLE = frozenset({"ConnectError", "ConnectTimeout", "ConnectionError", "ReadTimeout", "TimeoutException"})

SAMPLE_SECONDS = 0.5

STALE_SECONDS = 3600.0
"""A partial file without writes for this time belongs to a killed pod, and is removed, as it would fill the volume.
huggingface_hub never continues it, since each attempt has its own file name."""


@dataclass(frozen=True)
class DownloadSource:
    """The source of a model, as in vLLM's arguments."""

    model: str
    revision: str | None
    """None means the branch main."""
    load_format: str


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository."""

    name: str
    size: int
    etag: str
    """The name of its content in the cache: the SHA-256 of a large file, the Git object ID of another."""
    large: bool


def select_files(files: Sequence[RemoteFile], load_format: str) -> list[RemoteFile]:
    """Select the files that vLLM needs from a repository's files."""
    top = [file for file in files if "/" not in file.name]
    small = [file for file in top if _matches(file, SMALL_FILES) and not _matches(file, NOT_WEIGHTS)]
    patterns = WEIGHTS.get(load_format, ())
    if load_format == "auto" and any(_matches(file, WEIGHTS["mistral"]) for file in top):
        patterns = WEIGHTS["mistral"]
    for pattern in patterns:
        if weights := [file for file in top if _matches(file, (pattern,)) and not _matches(file, NOT_WEIGHTS)]:
            return small + weights
    return small


def _matches(file: RemoteFile, patterns: Iterable[str]) -> bool:
    return any(fnmatch(file.name, pattern) for pattern in patterns)


@dataclass(frozen=True)
class Repository:
    """A model on the hub, and its folder in the cache."""

    name: str
    revision: str | None
    """None means the branch main."""
    files: tuple[RemoteFile, ...]
    hub_cache: Path

    @property
    def folder(self) -> Path:
        """The folder of the repository in the hub's cache."""
        return repository_folder(self.hub_cache, self.name)

    def blob(self, file: RemoteFile) -> Path:
        """The path of a file's content in the cache."""
        return self.folder / "blobs" / file.etag

    def bytes_here(self, files: Iterable[RemoteFile]) -> int:
        """The bytes of `files` that are in the cache, in complete and partial files."""
        return sum(self._bytes_of(file) for file in files)

    def _bytes_of(self, file: RemoteFile) -> int:
        blob = self.blob(file)
        if size := _size(blob):
            return min(size, file.size)
        partial = blob.parent.glob(f"{file.etag}*.incomplete") if blob.parent.is_dir() else []
        return min(file.size, max((_size(path) for path in partial), default=0))


def look_up(name: str, revision: str | None, hub_cache: Path) -> Repository:
    """Query the hub for a repository. Raises huggingface_hub's errors, see diagnosis."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(name, revision=revision, files_metadata=True)
    files = (
        RemoteFile(
            name=sibling.rfilename,
            size=sibling.size or 0,
            etag=sibling.lfs.sha256 if sibling.lfs else sibling.blob_id or "",
            large=sibling.lfs is not None,
        )
        for sibling in info.siblings or ()
    )
    return Repository(name, revision, tuple(files), hub_cache)


def comes_from_hub(model: str, env: Mapping[str, str]) -> bool:
    """Whether `model` names a repository that must be fetched from the hub."""
    elsewhere = any(env.get(name, "").lower() in ("1", "true", "yes", "on") for name in NO_HUB)
    return not elsewhere and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) is not None and not Path(model).exists()


def download_model(
    source: DownloadSource,
    hub_cache: Path,
    state: ServerState,
    check: Callable[[Path, int], None] = lambda config, size: None,
) -> None:
    """Fetch the files that vLLM needs. If the hub cannot be reached and the cache has the model, fetch nothing.

    Before the weights are fetched, `check` is called with the model's config.json and the size of its weights in bytes.
    It may raise. Raises StartError and huggingface_hub's errors.
    """
    try:
        repository = look_up(source.model, source.revision, hub_cache)
    except Exception as error:
        if is_unreachable(error) and (cached := cached_folder(source, hub_cache)):
            logger.warning("The hub cannot be reached (%s): starting with the files in %s", error, cached)
            return
        raise
    files = select_files(repository.files, source.load_format)
    small = [file for file in files if not file.large]
    download = Download(sum(file.size for file in files))
    if repository.bytes_here(files) < download.total:
        state.download = download
        state.step = Step.DOWNLOADING
    folder = fetch(repository, small, Download(0))
    if (folder / "config.json").exists():
        check(folder / "config.json", sum(file.size for file in files if file.large))
    fetch(repository, files, download)


def is_unreachable(error: BaseException) -> bool:
    """Whether the hub did not answer at all. Compares class names, as huggingface_hub has changed its HTTP library."""
    return any(type(cause).__name__ in UNREACHABLE for cause in causes(error))


def cached_folder(source: DownloadSource, hub_cache: Path) -> Path | None:
    """Find the folder of the model in the cache, if it has weights.

    Only vLLM notices a missing file of the weights, when it loads them. huggingface_hub's own check does not help. It
    calls a snapshot incomplete even if vLLM does not need the missing file.
    """
    folder = repository_folder(hub_cache, source.model)
    revision = source.revision or "main"
    ref = folder / "refs" / revision
    snapshot = folder / "snapshots" / (ref.read_text("ascii") if ref.is_file() else revision)
    patterns = WEIGHTS.get(source.load_format, ())
    has_weights = any(path.exists() for pattern in patterns for path in snapshot.glob(pattern))
    unchecked = folder / "forebay-unchecked"
    return snapshot if has_weights and not (unchecked.is_dir() and any(unchecked.iterdir())) else None


def fetch(repository: Repository, files: Sequence[RemoteFile], download: Download) -> Path:
    """Fetch `files` to the cache, check them, and keep `download` up to date. Returns their folder.

    Raises StartError (DiskFull, CorruptDownload) and huggingface_hub's errors.
    """
    _remove_stale(repository.folder / "blobs", time.time())
    missing = [file for file in files if not repository.blob(file).exists()]
    _check_space(repository, missing)
    unchecked = repository.folder / "forebay-unchecked"
    for file in missing:
        if file.large:
            unchecked.mkdir(parents=True, exist_ok=True)
            (unchecked / file.etag).touch()
    with _measured(repository, files, download):
        try:
            folder = _get(repository, files)
            corrupt = _check(repository, files, unchecked)
            if corrupt:
                logger.warning("Downloaded again, because the content differs from the hub's: %s", ", ".join(corrupt))
                _get(repository, files)
                corrupt = _check(repository, files, unchecked)
        except OSError as error:
            if full := disk_full(error, repository.hub_cache):
                raise StartError(full) from error
            raise
    if corrupt:
        raise StartError(
            Failure(
                "CorruptDownload",
                f"{', '.join(corrupt)} of {repository.name} arrived twice with content that differs from the hub's.",
                "Look for a proxy or a mirror (HF_ENDPOINT) that changes files, or a volume that loses data.",
                EXIT_FAILURE,
            )
        )
    return folder


def _get(repository: Repository, files: Sequence[RemoteFile]) -> Path:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        repository.name,
        revision=repository.revision,
        allow_patterns=[file.name for file in files],
        cache_dir=repository.hub_cache,
    )
    return Path(folder)


def _check(repository: Repository, files: Iterable[RemoteFile], unchecked: Path) -> list[str]:
    """Check the marked files, and delete files with a wrong content. Returns the names of the deleted files.

    A file stays marked until its content was checked, also over a restart. Files without a mark are trusted.
    """

    def is_right(file: RemoteFile) -> bool:
        blob = repository.blob(file)
        if _sha256(blob) != file.etag:
            blob.unlink(missing_ok=True)
            return False
        (unchecked / file.etag).unlink(missing_ok=True)
        return True

    marked = [file for file in files if (unchecked / file.etag).exists() and repository.blob(file).exists()]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return [file.name for file, right in zip(marked, pool.map(is_right, marked), strict=True) if not right]


@contextmanager
def _measured(repository: Repository, files: Sequence[RemoteFile], download: Download) -> Iterator[None]:
    """Keep `download` up to date while the block runs."""
    ended = threading.Event()

    def measure() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            download.add(repository.bytes_here(files))

    download.add(repository.bytes_here(files))
    thread = threading.Thread(target=measure, name="download progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        download.add(repository.bytes_here(files))


def _check_space(repository: Repository, missing: Iterable[RemoteFile]) -> None:
    """Raise StartError (DiskFull) if the files do not fit on the volume."""
    files = list(missing)
    needed = sum(file.size for file in files) - repository.bytes_here(files)
    repository.hub_cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(repository.hub_cache).free
    if needed > free:
        raise StartError(
            _disk_full(f"{_size_text(needed)} are still missing, and {_size_text(free)} are free", repository)
        )


def _disk_full(what: str, repository: Repository) -> Failure:
    return Failure(
        "DiskFull",
        f"The files of {repository.name} do not fit on the cache volume: {what} in {repository.hub_cache}.",
        "Give the endpoint a larger cache volume, or delete unused models from it.",
    )


def disk_full(error: OSError, folder: Path) -> Failure | None:
    """The Failure for a full disk or quota; None for another error."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    free = shutil.disk_usage(folder).free
    return Failure(
        "DiskFull",
        f"The cache volume became full during the download: {_size_text(free)} are free in {folder}.",
        "Give the endpoint a larger cache volume, or delete unused models from it.",
    )


def _remove_stale(blobs: Path, now: float) -> None:
    for path in blobs.glob("*.incomplete") if blobs.is_dir() else ():
        try:
            if now - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()
        except FileNotFoundError:
            continue  # another pod was faster


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size_text(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
