"""The refusal of a request that asks for something which cannot be done here."""

from forebay_protocol.errors import ApiError


class Incompatible(Exception):
    """The request asks for something that cannot be done here; carries the answer."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.error = ApiError(400, message, "unsupported_parameter", param)
