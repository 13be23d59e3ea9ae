"""One question over HTTP to a pod of ours, bounded in time and in the size of its answer."""

import logging

import aiohttp

logger = logging.getLogger(__name__)


async def read_text(
    session: aiohttp.ClientSession, address: str, port: int, path: str, most: int = 1 << 20
) -> str | None:
    """What a pod answers, if that is 200 and of `most` bytes; None else. The session has the time-out."""
    url = f"http://[{address}]:{port}{path}" if ":" in address else f"http://{address}:{port}{path}"
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
