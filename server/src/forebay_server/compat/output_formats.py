"""The format of an answer, as clients of other servers and of older APIs write it, put as vLLM takes it. Pure."""

from collections.abc import Collection
from typing import Any

from forebay_server.compat.incompatible import Incompatible

Fields = dict[str, Any]

_JSON = ("json_object", "json_schema")


def adapt_response_format(fields: Fields, constraints: Collection[str]) -> Fields:
    """`response_format` with the schema where OpenAI has it.

    llama.cpp, Together and Fireworks have `schema` beside the type. vLLM 0.32 drops it there, and any JSON would do.

    Args:
        fields: of a chat completion or a completion.
        constraints: the names of fields that constrain the answer too. vLLM 0.32 lets response_format replace one.

    Raises:
        Incompatible: it has such a field too.
    """
    layout = fields.get("response_format")
    if not isinstance(layout, dict) or layout.get("type") == "text":
        return fields
    if name := _first_given(fields, constraints):
        raise Incompatible(f"Send {name} or response_format, not both.", "response_format")
    schema = layout.get("schema")
    if layout.get("type") not in _JSON or not isinstance(schema, dict) or layout.get("json_schema") is not None:
        return fields
    rest = {name: layout[name] for name in ("name", "description", "strict") if layout.get(name) is not None}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", **rest, "schema": schema}}
    return {**fields, "response_format": wanted}


def adapt_text_format(fields: Fields, constraints: Collection[str]) -> Fields:
    """`text` of the Responses API without a format that asks for text, where there is a constraint: vLLM 0.32 refuses
    any format beside one.

    Raises:
        Incompatible: it has a format that asks for something else.
    """
    text, name = fields.get("text"), _first_given(fields, constraints)
    if not name or not isinstance(text, dict) or not isinstance(text.get("format"), dict):
        return fields
    if text["format"].get("type") != "text":
        raise Incompatible(f"Send {name} or text.format, not both.", "text.format")
    return {**fields, "text": {each: value for each, value in text.items() if each != "format"}}


def _first_given(fields: Fields, names: Collection[str]) -> str:
    """The first of these fields that asks for something; "" for none."""
    return next((name for name in names if fields.get(name) not in (None, False, "")), "")


def adapt_output_format(fields: Fields) -> Fields:
    """`output_format` of the Messages API's beta of 2025-11 as `output_config.format`.

    Raises:
        Incompatible: it has both.
    """
    layout = fields.get("output_format")
    if layout is None:
        return fields
    rest = {name: value for name, value in fields.items() if name != "output_format"}
    return set_output_format(rest, layout, "output_format", "output_format")


def set_output_format(fields: Fields, layout: Any, source: str, param: str) -> Fields:
    """The fields of the Messages API with this output_config.format.

    Args:
        fields: the fields without `source`.
        layout: the format.
        source: the field that the client gave the format in.
        param: the parameter that the error names.

    Raises:
        Incompatible: the fields have a format already.
    """
    config = fields.get("output_config") or {}
    if not isinstance(config, dict) or config.get("format") is not None:
        raise Incompatible(f"Send {source} or output_config.format, not both.", param)
    return {**fields, "output_config": {**config, "format": layout}}
