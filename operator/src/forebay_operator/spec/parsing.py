"""Parses a manifest into an Endpoint.

The CRD's schema rejects most of these specs too. The checks are repeated because an older schema may be
installed, and because an unreadable object must end in a status, never in a crash.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from forebay_operator import labels
from forebay_operator.spec.endpoint import Between, Endpoint, Manifest, Spec
from forebay_operator.spec.inheritance import NO_INHERITANCE, Inheritance
from forebay_operator.spec.source import Source, parse_source
from forebay_operator.spec.validation import MODEL_FORMS, find_in_name, find_problems

_WORDS = {int: "a whole number", str: "text", bool: "true or false", Mapping: "an object", tuple: "a list"}


class InvalidSpec(Exception):
    """The endpoint asks for something that cannot work.

    `problems` has one sentence for each problem. Each sentence begins with the field.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class _Unreadable(Exception):
    """A value has the wrong type or bounds for its field. The message names the field."""


def parse_endpoint(manifest: Manifest, inheritance: Inheritance = NO_INHERITANCE) -> Endpoint:
    """Parse an InferenceEndpoint as the API server has it.

    Args:
        inheritance: selects its labels and annotations for its children.

    Raises:
        InvalidSpec: the spec cannot work. The exception names all problems.
    """
    metadata, spec = manifest["metadata"], manifest.get("spec") or {}
    if not isinstance(spec, Mapping):
        raise InvalidSpec([f"spec: {spec!r} is not an object"])
    problems = list(find_in_name(metadata["name"]))
    values = parse_fields(Spec, spec, "spec", problems)
    if problems:
        raise InvalidSpec(problems)
    endpoint = Endpoint(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        inherited=inheritance.select(metadata),
        given=spec,
        upgrade_approval=str((metadata.get("annotations") or {}).get(labels.UPGRADE_ANNOTATION, "")),
        **values,
    )
    if problems := list(find_problems(endpoint)):
        raise InvalidSpec(problems)
    return endpoint


def camel(name: str) -> str:
    """The name of a field as Kubernetes spells it: claim_name is claimName."""
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind, include_extras=True)


def parse_fields(kind: Any, given: Manifest, path: str, problems: list[str]) -> dict[str, Any]:
    """Parse the given fields into arguments for the dataclass `kind`. Unknown fields are ignored.

    Each value that cannot be read adds a sentence to `problems`.
    """
    values = {}
    for one in fields(kind):
        value, place = given.get(camel(one.name)), f"{path}.{camel(one.name)}"
        if value is not None:
            try:
                values[one.name] = _read(_hints(kind)[one.name], value, place, problems)
            except _Unreadable as error:
                problems.append(str(error))
        elif one.default is MISSING and one.default_factory is MISSING:
            problems.append(f"{place}: missing; give {MODEL_FORMS}" if one.name == "model" else f"{place}: missing")
    return values


def _read(hint: Any, value: Any, path: str, problems: list[str]) -> Any:
    if hint is Source:
        source = parse_source(value) if isinstance(value, str) else None
        if source is None:
            raise _Unreadable(f"{path}: {value!r} is neither {MODEL_FORMS.replace(', ', ' nor ')}")
        return source
    if get_origin(hint) in (Union, UnionType):  # a union with None: the field may be absent
        (hint, _) = get_args(hint)
    kind = get_origin(hint) or hint
    if kind is Annotated:
        (of, bounds) = get_args(hint)
        return _read_number(of, bounds, value, path, problems)
    if kind is Literal:
        if value not in get_args(hint):
            raise _Unreadable(f"{path}: {value!r} is not one of {', '.join(get_args(hint))}")
        return value
    if kind is tuple and isinstance(value, list):
        (of, _) = get_args(hint)
        return tuple(_read(of, item, f"{path}[{place}]", problems) for place, item in enumerate(value))
    if is_dataclass(kind) and isinstance(value, Mapping):
        before = len(problems)
        values = parse_fields(kind, value, path, problems)
        return kind(**values) if len(problems) == before else None  # type: ignore[operator]
    expected = Mapping if is_dataclass(kind) else kind
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise _Unreadable(f"{path}: {value!r} is not {_WORDS[expected]}")
    return value


def _read_number(kind: type[int], bounds: Between, value: Any, path: str, problems: list[str]) -> int:
    number: int = _read(kind, value, path, problems)
    if not bounds.minimum <= number <= bounds.maximum:
        raise _Unreadable(f"{path}: {number} is not from {bounds.minimum} to {bounds.maximum}")
    return number
