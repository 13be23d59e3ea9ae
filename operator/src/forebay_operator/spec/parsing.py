"""From the manifest to an Endpoint.

The schema of the CRD refuses most of what is refused here. It is checked again because an older schema may be
installed, and because an object that cannot be understood has to end in a status, never in a crash.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from forebay_operator.spec.endpoint import Between, Endpoint, Manifest, Spec
from forebay_operator.spec.source import Source, parse_source
from forebay_operator.spec.validation import MODEL_FORMS, find_in_name, find_problems

_WORDS = {int: "a whole number", str: "text", bool: "true or false", Mapping: "an object", tuple: "a list"}


class InvalidSpec(Exception):
    """The endpoint asks for something that cannot work.

    `problems` holds one sentence each, naming the field first.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class _Unreadable(Exception):
    """A value is not what its field can be; the sentence names the field."""


def parse_endpoint(manifest: Manifest) -> Endpoint:
    """Read an InferenceEndpoint as the API server delivers it.

    Raises:
        InvalidSpec: something in it cannot work; all problems found are named.
    """
    metadata, spec = manifest["metadata"], manifest.get("spec") or {}
    if not isinstance(spec, Mapping):
        raise InvalidSpec([f"spec: {spec!r} is not an object"])
    problems = list(find_in_name(metadata["name"]))
    values = _read_fields(Spec, spec, "spec", problems)
    if problems:
        raise InvalidSpec(problems)
    endpoint = Endpoint(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
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


def _read_fields(kind: Any, given: Manifest, where: str, problems: list[str]) -> dict[str, Any]:
    """The fields that are given, as arguments for the dataclass `kind`. What it does not know is ignored."""
    values = {}
    for one in fields(kind):
        value, place = given.get(camel(one.name)), f"{where}.{camel(one.name)}"
        if value is not None:
            try:
                values[one.name] = _read(_hints(kind)[one.name], value, place, problems)
            except _Unreadable as error:
                problems.append(str(error))
        elif one.default is MISSING and one.default_factory is MISSING:
            problems.append(f"{place}: missing; give {MODEL_FORMS}" if one.name == "model" else f"{place}: missing")
    return values


def _read(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    if hint is Source:
        source = parse_source(value) if isinstance(value, str) else None
        if source is None:
            raise _Unreadable(f"{where}: {value!r} is neither {MODEL_FORMS.replace(', ', ' nor ')}")
        return source
    if isinstance(hint, UnionType):  # with None, for what may be absent
        (hint, _) = get_args(hint)
    kind = get_origin(hint) or hint
    if kind is Annotated:
        (of, bounds) = get_args(hint)
        return _read_number(of, bounds, value, where, problems)
    if kind is Literal:
        if value not in get_args(hint):
            raise _Unreadable(f"{where}: {value!r} is not one of {', '.join(get_args(hint))}")
        return value
    if kind is tuple and isinstance(value, list):
        (of, _) = get_args(hint)
        return tuple(_read(of, item, f"{where}[{place}]", problems) for place, item in enumerate(value))
    if is_dataclass(kind) and isinstance(value, Mapping):
        before = len(problems)
        values = _read_fields(kind, value, where, problems)
        return kind(**values) if len(problems) == before else None  # type: ignore[operator]
    expected = Mapping if is_dataclass(kind) else kind
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise _Unreadable(f"{where}: {value!r} is not {_WORDS[expected]}")
    return value


def _read_number(kind: type[int], bounds: Between, value: Any, where: str, problems: list[str]) -> int:
    number: int = _read(kind, value, where, problems)
    if not bounds.least <= number <= bounds.most:
        raise _Unreadable(f"{where}: {number} is not from {bounds.least} to {bounds.most}")
    return number
