"""Questions and orders over HTTP to a pod, bounded in time and in the size of its answers.

Any image may listen there, so whatever it answers is no error of the operator's.
"""

import logging

import aiohttp

ORDER_TIMEOUT = 120.0
"""Seconds for an engine to fall asleep or wake."""

MAX_LOGGED_BYTES = 200
"""Bytes of an error that are logged."""

logger = logging.getLogger(__name__)


async def get_text(
    session: aiohttp.ClientSession, address: str, port: int, path: str, most: int = 1 << 20
) -> str | None:
    """What a pod answers, if that is 200 and of `most` bytes; None else. The session has the time-out. Bytes that are
    no UTF-8 are replaced."""
    url = _url(address, port, path)
    try:
        async with session.get(url, allow_redirects=False) as response:
            body = await _read(response, most)
            return body.decode(errors="replace") if response.status == 200 and len(body) <= most else None
    except Exception:
        logger.debug("%s did not answer", url, exc_info=True)
        return None


async def post_order(address: str, port: int, path: str, token: str) -> None:
    """Tell a server's engine control to do something. Whether it did is seen in its metrics."""
    timeout, url = aiohttp.ClientTimeout(total=ORDER_TIMEOUT), _url(address, port, path)
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, headers=headers, allow_redirects=False) as response,
        ):
            if response.status != 200:
                said = (await _read(response, MAX_LOGGED_BYTES))[:MAX_LOGGED_BYTES].decode(errors="replace")
                logger.warning("%s: %d %r", url, response.status, said)
    except (OSError, aiohttp.ClientError, TimeoutError) as error:
        logger.warning("%s: %r", url, error)
    except Exception:
        logger.exception("%s failed", url)


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body of an answer; of a longer one a little more than `most` bytes."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > most:
            break
    return bytes(body)


def _url(address: str, port: int, path: str) -> str:
    return f"http://[{address}]:{port}{path}" if ":" in address else f"http://{address}:{port}{path}"
