"""Converts answer formats that clients write for other servers or older APIs to vLLM's form. Pure."""

from collections.abc import Collection
from typing import Any

from forebay_server.api_compat.incompatible import Incompatible

Fields = dict[str, Any]

_JSON = ("json_object", "json_schema")


def adapt_response_format(fields: Fields, constraints: Collection[str]) -> Fields:
    """Move the schema of `response_format` to where OpenAI's API has it.

    llama.cpp, Together and Fireworks have `schema` next to the type. vLLM 0.32 ignores this schema, and accepts any
    JSON.

    Args:
        fields: the fields of a chat completion or a completion.
        constraints: names of other fields that constrain the answer. In vLLM 0.32 response_format replaces them.

    Raises:
        Incompatible: the request also has a field of `constraints`.
    """
    requested = fields.get("response_format")
    if not isinstance(requested, dict) or requested.get("type") == "text":
        return fields
    if name := _first_given(fields, constraints):
        raise Incompatible(f"Send {name} or response_format, not both.", "response_format")
    schema = requested.get("schema")
    if requested.get("type") not in _JSON or not isinstance(schema, dict) or requested.get("json_schema") is not None:
        return fields
    rest = {name: requested[name] for name in ("name", "description", "strict") if requested.get(name) is not None}
    converted = {"type": "json_schema", "json_schema": {"name": "answer", **rest, "schema": schema}}
    return {**fields, "response_format": converted}


def adapt_text_format(fields: Fields, constraints: Collection[str]) -> Fields:
    """Remove the format "text" from `text` of the Responses API if the request has a constraint.

    vLLM 0.32 rejects any format together with a constraint.

    Raises:
        Incompatible: the format asks for something other than text.
    """
    text, name = fields.get("text"), _first_given(fields, constraints)
    if not name or not isinstance(text, dict) or not isinstance(text.get("format"), dict):
        return fields
    if text["format"].get("type") != "text":
        raise Incompatible(f"Send {name} or text.format, not both.", "text.format")
    return {**fields, "text": {key: value for key, value in text.items() if key != "format"}}


def _first_given(fields: Fields, names: Collection[str]) -> str:
    """The name of the first of these fields that is set; "" if no field is set."""
    return next((name for name in names if fields.get(name) not in (None, False, "")), "")


def adapt_output_format(fields: Fields) -> Fields:
    """Convert `output_format`, of the Messages API's beta of 2025-11, to `output_config.format`.

    Raises:
        Incompatible: the request has both.
    """
    output_format = fields.get("output_format")
    if output_format is None:
        return fields
    rest = {name: value for name, value in fields.items() if name != "output_format"}
    return set_output_format(rest, output_format, "output_format", "output_format")


def set_output_format(fields: Fields, output_format: Any, source: str, param: str) -> Fields:
    """Set output_config.format of the Messages API.

    Args:
        fields: the fields without `source`.
        output_format: the format.
        source: the field in which the client gave the format.
        param: the parameter that the error names.

    Raises:
        Incompatible: the fields have a format already.
    """
    config = fields.get("output_config") or {}
    if not isinstance(config, dict) or config.get("format") is not None:
        raise Incompatible(f"Send {source} or output_config.format, not both.", param)
    return {**fields, "output_config": {**config, "format": output_format}}
