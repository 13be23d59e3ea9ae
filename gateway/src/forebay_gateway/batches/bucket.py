"""The bucket for the contents of files, in S3 or a store with its protocol (obstore). The file store calls it.

A file is several objects of a few MiB, not one S3 multipart upload. So another gateway can continue after a crash, and
no upload stays open. The store needs only PUT, GET, DELETE and lists.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from forebay_gateway.jobs.store import Unavailable

if TYPE_CHECKING:
    from obstore.store import S3Config  # only its stubs have it

logger = logging.getLogger(__name__)

T = TypeVar("T")

BUCKET_CONNECT_SECONDS = 5
BUCKET_RETRIES = 3

_PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
"""The same pattern as in the chart's schema: characters that every store keeps unchanged, and no `..`."""

_CODE = re.compile(r"<Code>(\w{1,100})</Code>")
"""The code in an error of S3."""


class ContentMissing(Exception):
    """The bucket has no such object: somebody else deleted it."""


@dataclass(frozen=True)
class BucketSettings:
    """The address of the bucket. Credentials are in the environment variables of Amazon's SDKs: a key or a web
    identity.

    Attributes:
        endpoint: the URL of the store; "" for Amazon's.
        region: "" for the region of the environment, or us-east-1.
        prefix: the prefix of the names of all objects.
        path_style: whether the bucket is in the path of URLs; otherwise it is in the host name.
        seconds: the time for one request, with all retries.
    """

    bucket: str
    endpoint: str = ""
    region: str = ""
    prefix: str = ""
    path_style: bool = True
    seconds: float = 30.0


@dataclass(frozen=True)
class StoredObject:
    """One object of a list."""

    name: str
    written: datetime


class Bucket:
    """Objects below the prefix, in the folder that `find_folder` returns.

    Every method raises Unavailable if the bucket does not answer, and while the folder is unknown (None).

    Raises ValueError if the settings are invalid.
    """

    def __init__(self, settings: BucketSettings, find_folder: Callable[[], str | None] = str) -> None:
        if settings.prefix and not _PREFIX.fullmatch(settings.prefix):
            raise ValueError(f"the prefix {settings.prefix!r} must be words with single slashes between them")
        self._settings = settings
        self._find_folder = find_folder
        self._folder = ""
        self._opened = _open_store(settings)
        self._away = False

    async def put(self, name: str, data: bytes) -> None:
        """Write an object."""
        await self._try(obstore.put_async(self._open(), name, data, use_multipart=False))

    async def read(self, name: str, start: int, length: int) -> bytes:
        """Read `length` bytes of an object from `start`. Raises ContentMissing."""
        try:
            data = await self._try(obstore.get_range_async(self._open(), name, start=start, length=length))
        except FileNotFoundError as error:
            raise ContentMissing from error
        return bytes(data)

    async def delete(self, names: Sequence[str]) -> None:
        """Delete objects, whether they exist or not."""
        if names:
            try:
                await self._try(obstore.delete_async(self._open(), names))
            except FileNotFoundError:  # some stores raise it for a missing object; the others may exist
                for name in names:
                    with suppress(FileNotFoundError):
                        await self._try(obstore.delete_async(self._open(), name))

    async def objects(self, folder: str) -> AsyncIterator[StoredObject]:
        """All objects below a folder, ordered by name."""
        pages = obstore.list(self._open(), prefix=folder)
        while True:
            try:
                page = await self._try(anext(pages))
            except StopAsyncIteration:
                return
            for each in page:
                yield StoredObject(each["path"], each["last_modified"])

    def _open(self) -> S3Store:
        """The store with the current folder."""
        folder = self._find_folder()
        if folder is None:
            raise self._unavailable(LookupError("the Secret that names the gateways' folder is not known yet"))
        if folder != self._folder:
            prefix = "/".join(filter(None, (self._settings.prefix, folder)))
            self._folder, self._opened = folder, _open_store(replace(self._settings, prefix=prefix))
        return self._opened

    async def _try(self, request: Awaitable[T]) -> T:
        """Await a request. Raises Unavailable, and FileNotFoundError for a missing object."""
        try:
            async with asyncio.timeout(2 * self._settings.seconds):
                answer = await request
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._unavailable(error) from error
            raise
        except (BaseError, OSError, TimeoutError) as error:
            raise self._unavailable(error) from error
        if self._away:
            logger.info("the bucket answers again")
        self._away = False
        return answer

    def _unavailable(self, error: Exception) -> Unavailable:
        if not self._away:
            logger.error("the bucket for files does not work: %s", _describe(error))
        self._away = True
        return Unavailable()


def _endpoint(settings: BucketSettings) -> str:
    """The endpoint in obstore's form, which includes the bucket if the host name has it. Raises ValueError."""
    url = urlsplit(settings.endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"the endpoint {settings.endpoint!r} must be a URL such as https://s3.example.com")
    if settings.path_style:
        return settings.endpoint.rstrip("/")
    return f"{url.scheme}://{settings.bucket}.{url.netloc}{url.path.rstrip('/')}"


def _open_store(settings: BucketSettings) -> S3Store:
    """Open the store. Raises ValueError."""
    config: S3Config = {}  # for missing settings obstore reads the environment
    if settings.endpoint:
        config["endpoint"] = _endpoint(settings)
    if settings.region:
        config["region"] = settings.region
    try:
        return S3Store(
            settings.bucket,
            prefix=settings.prefix or None,
            virtual_hosted_style_request=not settings.path_style,
            disable_bulk_delete=True,  # some stores do not have it
            client_options={
                "allow_http": settings.endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=BUCKET_CONNECT_SECONDS),
                "timeout": timedelta(seconds=settings.seconds),
            },
            retry_config={"max_retries": BUCKET_RETRIES, "retry_timeout": timedelta(seconds=settings.seconds)},
            config=config,
        )
    except BaseError as error:
        raise ValueError(_describe(error)) from None


def _describe(error: Exception) -> str:
    """The text of an error. Only the code of the store's answer is kept, because the rest may contain a key."""
    message, _, answer = str(error).partition("\n\nDebug source")[0].partition("<")
    code = _CODE.search(answer)
    return f"{message}{code[1] if code else ''}".strip() or type(error).__name__
