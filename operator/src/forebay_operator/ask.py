"""Questions and orders over HTTP to a pod of ours, bounded in time and in the size of its answers."""

import logging

import aiohttp

ORDER_TIMEOUT = 120.0
"""Seconds for an engine to fall asleep or wake."""

logger = logging.getLogger(__name__)


async def read_text(
    session: aiohttp.ClientSession, address: str, port: int, path: str, most: int = 1 << 20
) -> str | None:
    """What a pod answers, if that is 200 and of `most` bytes; None else. The session has the time-out."""
    url = _url(address, port, path)
    try:
        async with session.get(url, allow_redirects=False) as response:
            body = b""
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > most:
                    return None
            return body.decode() if response.status == 200 else None
    except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
        logger.debug("%s: %r", url, error)
        return None


async def order(address: str, port: int, path: str, token: str) -> None:
    """Tell a server's engine control to do something. Whether it did is seen in its metrics."""
    timeout, url = aiohttp.ClientTimeout(total=ORDER_TIMEOUT), _url(address, port, path)
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.post(url, headers=headers) as response:
            if response.status != 200:
                logger.warning("%s: %d %s", url, response.status, (await response.text())[:200])
    except (OSError, aiohttp.ClientError, TimeoutError) as error:
        logger.warning("%s: %r", url, error)


def _url(address: str, port: int, path: str) -> str:
    return f"http://[{address}]:{port}{path}" if ":" in address else f"http://{address}:{port}{path}"
