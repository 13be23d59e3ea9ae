"""Checks values with the CRD's schema, and generates values for hypothesis."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import yaml
from hypothesis import strategies as st

from cluster.pins import ROOT

Schema = Mapping[str, Any]

CRD = yaml.safe_load((ROOT / "crds/inferenceendpoints.forebay.dev.yaml").read_text())
PROPERTIES: Mapping[str, Schema] = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]

TYPES: Mapping[str, type] = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}

GOOD: Mapping[str, tuple[str, ...]] = {
    "model": (
        *("org/model", "hf://org/model", "hf://org/model:v1"),
        *("oci://registry.example/m:1", "pvc://claim/folder", "s3://bucket/m", "/models/m"),
    ),
    "source": ("org/adapter", "pvc://claim/adapter", "oci://registry.example/a:1", "/adapters/a"),
    "revision": ("v1", "refs/pr/3", ""),
    "args": ("--seed=1", "--max-model-len 8192", "--served-model-name", "a", "--lora-modules a=org/b"),
    "drainTimeout": ("0s", "90s", "5m", "1h30m"),
    "queueDelay": ("1s", "10s"),
    "idleTimeout": ("1s", "5m"),
    "up": ("2s", "1m"),
    "down": ("2s", "10m"),
    "startupTimeout": ("10s", "5m", "24h"),
    "size": ("1Gi", "100G"),
    "storage": ("1Gi",),
    "sizeLimit": ("1Gi", "1024Mi"),
    "resource": ("nvidia.com/gpu", "amd.com/gpu", "nvidia.com/mig-3g.20gb", "gpu.intel.com/i915"),
    "product": ("", "NVIDIA-L40S"),
    "mountPath": ("/data", "/etc/own", "/more"),
    "name": ("MAX_MODEL_LEN", "HF_TOKEN", "TENSOR_PARALLEL_SIZE", "VLLM_STARTUP_TIMEOUT", "a", "b"),
    "value": ("8192", "", "99999", "a b"),
    "labels": ("team", "example.com/team"),
    "annotations": ("note", "example.com/note"),
    "limits": ("cpu", "memory", "example.com/nic"),
    "requests": ("cpu", "memory", "ephemeral-storage"),
    "secretName": ("", "mine", "other"),
    "claimName": ("claim", "mine"),
    "lastTransitionTime": ("2026-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2099-12-31T23:59:59Z"),
    "startedAt": ("2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z"),
    "type": ("Ready", "Reconciling", "Stalled", "ModelLoaded", "EnvRecognized", "RouteReady", "Other"),
    "reason": ("Ready", "Scheduling", "RouteAccepted", "RouteWaiting", "Pending", "Other"),
}
"""Texts for fields whose form the schema defines by rules (CEL)."""

BAD = (
    *("", "a b", "99h", "/model", "MODEL_NAME", "FOREBAY_X", "gpu", "forebay.dev/x", "..", "s3://bucket/a", "-1"),
    *("--port", "--x 'a", "hf://a/b:"),
)
"""Texts that such a rule rejects for some field."""

junk: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
    max_leaves=4,
)
"""Anything that JSON can say."""


def find_violations(schema: Schema, value: Any, path: str) -> Iterator[str]:
    """The parts of a value that the API server would reject, except by rules in CEL."""
    kind = schema.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (kind == "integer" and isinstance(value, bool))):
        yield f"{path}: {value!r} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is not one of {schema['enum']}"
    if isinstance(value, str):
        if len(value) > schema.get("maxLength", len(value)) or len(value) < schema.get("minLength", 0):
            yield f"{path}: {len(value)} characters"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{path}: {value!r} is not of the form {schema['pattern']}"
        if schema.get("format") == "date-time" and not _is_time(value):
            yield f"{path}: {value!r} is no time"
    elif isinstance(value, int):
        if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            yield f"{path}: {value} is out of bounds"
    elif isinstance(value, list):
        if len(value) > schema.get("maxItems", len(value)):
            yield f"{path}: {len(value)} items"
        keys = [
            tuple(item.get(key) for key in schema.get("x-kubernetes-list-map-keys", ()))
            for item in value
            if isinstance(item, dict)
        ]
        if keys and keys[0] and len(set(keys)) < len(keys):
            yield f"{path}: two items are of one key"
        for place, item in enumerate(value):
            yield from find_violations(schema["items"], item, f"{path}[{place}]")
    elif isinstance(value, dict):
        yield from (f"{path}.{name}: missing" for name in schema.get("required", ()) if name not in value)
        properties = schema.get("properties") or {}
        for name, one in value.items():
            below = properties.get(name, schema.get("additionalProperties"))
            if isinstance(below, Mapping):
                yield from find_violations(below, one, f"{path}.{name}")
            elif below is None:
                yield f"{path}.{name}: unknown"


def values_of(schema: Schema, name: str = "", wild: bool = False) -> st.SearchStrategy[Any]:
    """Values that a schema accepts, except by rules in CEL; with `wild` any part may be junk instead."""
    made = _values_of(schema, name, wild)
    return st.one_of(*[made] * 15, junk) if wild else made


def _values_of(schema: Schema, name: str, wild: bool) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.sampled_from([1, "1", "500m", "1Gi", *(["x", -1] if wild else [])])
    kind = schema.get("type")
    if kind == "object":
        properties, required = schema.get("properties") or {}, schema.get("required", ())
        if not properties:
            return st.dictionaries(
                _text(name, 30, 1, wild), values_of(schema["additionalProperties"], name, wild), max_size=2
            )
        fields = {field: values_of(one, field, wild) for field, one in properties.items()}
        return _some_of(fields, required)
    if kind == "array":
        keys = schema.get("x-kubernetes-list-map-keys", ())
        unique = (
            (lambda item: repr([item.get(key) for key in keys]) if isinstance(item, dict) else repr(item))
            if keys
            else None
        )
        return st.lists(values_of(schema["items"], name, wild), max_size=3, unique_by=unique)
    if kind == "integer":
        return st.integers(schema.get("minimum", -(2**31)), schema.get("maximum", 2**31 - 1))
    if kind == "boolean":
        return st.booleans()
    if schema.get("format") == "date-time":
        return st.sampled_from(GOOD["startedAt"])
    text = _text(name, schema.get("maxLength", 64), schema.get("minLength", 0), wild)
    return text.filter(lambda one: re.search(schema["pattern"], one)) if "pattern" in schema and not wild else text


def _some_of(fields: Mapping[str, st.SearchStrategy[Any]], required: Any) -> st.SearchStrategy[Any]:
    """Objects with the required fields and few of the others, in varying combinations."""
    must = {name: fields[name] for name in required}
    others = sorted(set(fields) - set(must))
    if not others:
        return st.fixed_dictionaries(must)
    chosen = st.lists(st.sampled_from(others), max_size=4, unique=True)
    return chosen.flatmap(lambda few: st.fixed_dictionaries({**must, **{name: fields[name] for name in few}}))


def _text(name: str, most: int, least: int, wild: bool) -> st.SearchStrategy[str]:
    some = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=least, max_size=min(most, 20))
    good = [word for word in GOOD.get(name, ()) if least <= len(word) <= most]
    if not good:
        return some
    return st.one_of(*[st.sampled_from(good)] * 4, st.sampled_from(BAD), some) if wild else st.sampled_from(good)


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
