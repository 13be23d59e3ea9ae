"""Errors in the shapes of the APIs."""

from forebay_protocol.errors import MISSING_KEY, WRONG_KEY, ApiDialect, ApiError


def test_an_error_has_openais_fields() -> None:
    error = ApiError(503, "It did not start.", "endpoint_failed", "model").content()["error"]
    assert error == {
        "message": "It did not start.",
        "type": "server_error",
        "param": "model",
        "code": "endpoint_failed",
    }
    assert WRONG_KEY.content()["error"]["type"] == "invalid_request_error"
    assert MISSING_KEY.headers == (("www-authenticate", "Bearer"),)


def test_anthropics_clients_get_anthropics_types() -> None:
    content = WRONG_KEY.content(ApiDialect.ANTHROPIC)
    assert content["type"] == "error"
    assert content["error"]["type"] == "authentication_error"
    assert ApiError(529, "Later.").content(ApiDialect.ANTHROPIC)["error"]["type"] == "api_error"


def test_runpods_clients_get_a_plain_message() -> None:
    assert ApiError(404, "There is no such job.").content(ApiDialect.RUNPOD) == {"error": "There is no such job."}
