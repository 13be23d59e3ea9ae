"""Errors in OpenAI's shape."""

import time

import pytest

from forebay_protocol.errors import ApiError
from forebay_server.serving.errors import (
    MAX_VLLM_MESSAGE_LENGTH,
    clean,
    name_omitted_tools,
    name_variables,
    of_status,
    of_vllm,
)


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, {"message": "bad", "type": "BadRequestError", "param": "body.n", "code": 400}, (400, None, "n")),
        (404, {"message": "The model `x` does not exist."}, (404, "model_not_found", "model")),
        (404, {"message": f"The model `{'x' * 9000}` does not exist."}, (404, "model_not_found", "model")),
        (
            404,
            {"message": "Response with id 'resp_1' not found.", "param": "response_id"},
            (404, "response_not_found", "response_id"),
        ),
        (
            400,
            {"message": "suffix is only supported for models with FIM completion."},
            (400, "unsupported_parameter", "suffix"),
        ),
        (400, {"message": "This model's maximum context length is 8 tokens."}, (400, "context_length_exceeded", None)),
        (501, {"message": "no chat template", "type": "NotImplementedError"}, (400, "unsupported_operation", None)),
        (503, {"message": "later"}, (503, "service_unavailable", None)),
        (500, {"message": "secret"}, (500, "internal_error", None)),
    ],
)
def test_vllms_errors_get_openais_type_and_code(
    status: int, error: dict[str, object], expected: tuple[int, str | None, str | None]
) -> None:
    converted = of_vllm(status, {"error": error})
    assert (converted.status, converted.code, converted.param) == expected
    kind = "server_error" if converted.status >= 500 else "invalid_request_error"
    assert converted.content()["error"]["type"] == kind
    assert "secret" not in converted.message


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
            '"auto" tool choice requires ENABLE_AUTO_TOOL_CHOICE and TOOL_CALL_PARSER to be set '
            "(in spec.env of the endpoint).",
        ),
        ("Please set `--reasoning-parser`.", "Please set REASONING_PARSER (in spec.env of the endpoint)."),
        ("a--b and -- and 3 --4", "a--b and -- and 3 --4"),
        ("no tool '--verbose' and no http://a/--b", "no tool '--verbose' and no http://a/--b"),
        ("Use --no-enable-prefix-caching", "Use ENABLE_PREFIX_CACHING=false (in spec.env of the endpoint)."),
        ("See `--limit-mm-per-prompt.image`.", "See LIMIT_MM_PER_PROMPT (in spec.env of the endpoint)."),
        ("It is wrong.", "It is wrong."),
    ],
)
def test_messages_name_variables_instead_of_flags(message: str, named: str) -> None:
    assert name_variables(message) == named


@pytest.mark.parametrize("body", [{"detail": "Not here"}, {"error": "Not here"}])
def test_other_error_bodies_are_parsed(body: dict[str, object]) -> None:
    assert of_vllm(404, body).message == "Not here"


def test_a_wrong_method_is_an_error_of_the_request() -> None:
    converted = of_status(405, "", "GET", "/v1/embeddings")
    assert (converted.status, converted.code) == (405, "method_not_supported")
    assert len(of_status(405, "", "GET", f"/v1/models/{'x' * 60_000}").message) < 300


@pytest.mark.parametrize(
    ("message", "cleaned"),
    [
        ("no file /opt/venv/lib/python3.11/site-packages/vllm/x.py here", "no file  here"),
        ("<function f at 0x7f12>", "<function f>"),
        ('Traceback (most recent call last):\n  File "/a/b.py", line 3, in f\n    x()\nValueError: x', "ValueError: x"),
        ("see https://docs.vllm.ai/en/latest or /v1/models", "see https://docs.vllm.ai/en/latest or /v1/models"),
    ],
)
def test_messages_reveal_no_path_of_the_image(message: str, cleaned: str) -> None:
    assert clean(message) == cleaned


@pytest.mark.parametrize("said", [" ", "\n", "x", "1 validation error for m\nx\n" + " " * 60_000 + "b"])
def test_a_long_message_is_processed_quickly(said: str) -> None:
    began = time.process_time()
    assert len(clean(f"{said * 60_000 if len(said) == 1 else said} does not exist.")) <= MAX_VLLM_MESSAGE_LENGTH
    assert time.process_time() - began < 1


def test_an_error_about_tools_names_the_omitted_tools() -> None:
    refused = ApiError(400, '"auto" tool choice requires TOOL_CALL_PARSER to be set (in spec.env of the endpoint).')
    named = name_omitted_tools(refused, ("web_search",)).message
    assert named == f"{refused.message} Tools that this server cannot run were removed: web_search."
    assert name_omitted_tools(refused, ()) == refused
    other = ApiError(400, "temperature must be in [0, 2]")
    assert name_omitted_tools(other, ("web_search",)) == other
