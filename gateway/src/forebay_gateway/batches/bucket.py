"""A bucket of S3, or of a store that speaks its protocol, for the contents of files: objects by name, by obstore.

A file is several objects of a few MiB, not one that S3 puts together of parts (a multipart upload). So what a gateway
has written before it died is there for the next one, no upload is left open, and PUT, GET, DELETE and a list are all
that a store must know.
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
    from obstore.store import S3Config  # its stubs have it, and it is not there at run time

logger = logging.getLogger(__name__)

T = TypeVar("T")

BUCKET_CONNECT_SECONDS = 5
BUCKET_RETRIES = 3

_PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
"""As the chart's schema has it: characters that every store takes as they are, and no `..`."""

_CODE = re.compile(r"<Code>(\w{1,100})</Code>")
"""In an error of S3."""


class ContentGone(Exception):
    """The bucket has no such object: somebody else deleted it."""


@dataclass(frozen=True)
class BucketSettings:
    """Where the bucket is. Credentials are in the environment, by the names of Amazon's SDKs: a key, or a web identity.

    Attributes:
        endpoint: a URL; "" for Amazon's.
        region: "" for that of the environment, or us-east-1.
        prefix: of the names of all objects.
        path_style: the bucket is in the path of URLs, not in the name of the host.
        seconds: for one request, with all tries.
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

    Every method raises Unavailable where the bucket does not answer, and while the folder is unknown (None).

    Raises ValueError where the settings cannot be.
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
        """Write an object whole."""
        await self._try(obstore.put_async(self._open(), name, data, use_multipart=False))

    async def read(self, name: str, start: int, length: int) -> bytes:
        """So many bytes of an object. Raises ContentGone."""
        try:
            found = await self._try(obstore.get_range_async(self._open(), name, start=start, length=length))
        except FileNotFoundError as error:
            raise ContentGone from error
        return bytes(found)

    async def delete(self, names: Sequence[str]) -> None:
        """Delete objects that may be there."""
        if names:
            try:
                await self._try(obstore.delete_async(self._open(), names))
            except FileNotFoundError:  # as some stores say of one that is not there; the others may be
                for name in names:
                    with suppress(FileNotFoundError):
                        await self._try(obstore.delete_async(self._open(), name))

    async def objects(self, folder: str) -> AsyncIterator[StoredObject]:
        """All objects below a folder, in the order of their names."""
        pages = obstore.list(self._open(), prefix=folder)
        while True:
            try:
                page = await self._try(anext(pages))
            except StopAsyncIteration:
                return
            for each in page:
                yield StoredObject(each["path"], each["last_modified"])

    def _open(self) -> S3Store:
        """The store with the folder as it is known now."""
        folder = self._find_folder()
        if folder is None:
            raise self._unavailable(LookupError("the Secret that names the gateways' folder is not known yet"))
        if folder != self._folder:
            prefix = "/".join(filter(None, (self._settings.prefix, folder)))
            self._folder, self._opened = folder, _open_store(replace(self._settings, prefix=prefix))
        return self._opened

    async def _try(self, asked: Awaitable[T]) -> T:
        """Raises Unavailable, and FileNotFoundError for an object that is not there."""
        try:
            async with asyncio.timeout(2 * self._settings.seconds):
                answer = await asked
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
    """The endpoint as obstore wants it: with the bucket in the name of the host where that is the style."""
    url = urlsplit(settings.endpoint)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"the endpoint {settings.endpoint!r} must be a URL such as https://s3.example.com")
    if settings.path_style:
        return settings.endpoint.rstrip("/")
    return f"{url.scheme}://{settings.bucket}.{url.netloc}{url.path.rstrip('/')}"


def _open_store(settings: BucketSettings) -> S3Store:
    """Raises ValueError."""
    config: S3Config = {}  # what is not in it the environment may say
    if settings.endpoint:
        config["endpoint"] = _endpoint(settings)
    if settings.region:
        config["region"] = settings.region
    try:
        return S3Store(
            settings.bucket,
            prefix=settings.prefix or None,
            virtual_hosted_style_request=not settings.path_style,
            disable_bulk_delete=True,  # which other stores do not all have
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
    """What an error says, of the store's own answer only the code: the rest may tell of a key."""
    said, _, answer = str(error).partition("\n\nDebug source")[0].partition("<")
    code = _CODE.search(answer)
    return f"{said}{code[1] if code else ''}".strip() or type(error).__name__
