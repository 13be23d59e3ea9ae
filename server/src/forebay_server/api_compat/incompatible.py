"""The error for a request that this server cannot fulfil.

The request adapters in this folder raise it. The middleware turns it into an answer with status 400.
"""

from forebay_protocol.errors import ApiError


class Incompatible(Exception):
    """The request asks for something that this server cannot do. Carries the answer."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.error = ApiError(400, message, "unsupported_parameter", param)
