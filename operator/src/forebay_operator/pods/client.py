"""The HTTP client for pods: GET of metrics and reports, POST of orders. Time and the size of answers are bounded.

Any image may listen at a pod's address, so even a nonsensical answer is not an error of the operator. Called by the
autoscaler, the startup poller and `gateways`.
"""

import logging

import aiohttp

ORDER_TIMEOUT = 120.0
"""Seconds for an engine to fall asleep or wake."""

MAX_LOGGED_BYTES = 200
"""Bytes of an error that are logged."""

logger = logging.getLogger(__name__)


async def get_text(
    session: aiohttp.ClientSession, address: str, port: int, path: str, max_bytes: int = 1 << 20
) -> str | None:
    """GET a text from a pod. Returns None unless it answers 200 with at most `max_bytes`.

    The session sets the time-out. Bytes that are not UTF-8 are replaced.
    """
    url = _url(address, port, path)
    try:
        async with session.get(url, allow_redirects=False) as response:
            body = await _read(response, max_bytes)
            return body.decode(errors="replace") if response.status == 200 and len(body) <= max_bytes else None
    except Exception:
        logger.debug("%s did not answer", url, exc_info=True)
        return None


async def post_order(address: str, port: int, path: str, token: str) -> None:
    """POST an order to a server's engine control. The server's metrics show later whether it obeyed."""
    timeout, url = aiohttp.ClientTimeout(total=ORDER_TIMEOUT), _url(address, port, path)
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, headers=headers, allow_redirects=False) as response,
        ):
            if response.status != 200:
                text = (await _read(response, MAX_LOGGED_BYTES))[:MAX_LOGGED_BYTES].decode(errors="replace")
                logger.warning("%s: %d %r", url, response.status, text)
    except (OSError, aiohttp.ClientError, TimeoutError) as error:
        logger.warning("%s: %r", url, error)
    except Exception:
        logger.exception("%s failed", url)


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Read the body of an answer, up to a little more than `max_bytes`."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > max_bytes:
            break
    return bytes(body)


def _url(address: str, port: int, path: str) -> str:
    return f"http://[{address}]:{port}{path}" if ":" in address else f"http://{address}:{port}{path}"
