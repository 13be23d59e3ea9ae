"""Write docs/reference.md from the CRD: `python -m docs.generators.reference` prints it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CRD = Path(__file__).parents[2] / "crds/inferenceendpoints.forebay.dev.yaml"

HEAD = """# InferenceEndpoint, field by field

<!-- Written by `make docs` from crds/inferenceendpoints.forebay.dev.yaml, which is the one source. Don't edit. -->

`kubectl explain iep.spec` shows the same descriptions. The API server rejects a manifest that breaks a rule, and its
error quotes the rule. Types such as EnvVar are those of Kubernetes, and so are the rules for names of objects.

The tables have one sentence or two for each field. Longer descriptions continue below the table.
"""

EXAMPLE = """
```yaml
apiVersion: forebay.dev/v1alpha1
kind: InferenceEndpoint
metadata: {name: mistral}
spec:
  model: mistralai/Mistral-7B-Instruct-v0.2
```
"""

KUBERNETES = {
    "spec.env": "EnvVar",
    "spec.envFrom": "EnvFromSource",
    "spec.resources": "ResourceRequirements",
    "spec.route.parentRefs": "ParentReference",
    "spec.pod.tolerations": "Toleration",
    "spec.pod.affinity": "Affinity",
    "spec.pod.topologySpreadConstraints": "TopologySpreadConstraint",
    "spec.pod.imagePullSecrets": "LocalObjectReference",
    "spec.pod.volumes": "Volume",
    "spec.pod.volumeMounts": "VolumeMount",
    "status.conditions": "Condition",
}
"""Fields whose form is Kubernetes' own, so that the page does not go into them."""

MAX_CELL = 120
"""Characters of a table's cell, beyond which a description goes on below the table."""

ESCAPED = str.maketrans({"|": "\\|", "<": "&lt;"})


def render(crd: Mapping[str, Any]) -> str:
    """The page."""
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    sections = [_section(name, one) for name, one in _objects(schema)]
    named = [f"- {rule['message']}." for rule in schema.get("x-kubernetes-validations") or ()]
    return "\n".join([HEAD, schema["description"], EXAMPLE, "Rules for `metadata.name`:", "", *named, "", *sections])


def _objects(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in ("spec", "status"):
        yield from _below(name, schema["properties"][name])


def _below(path: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """An object and those in it, as far as they are ours."""
    yield path, schema
    for name, one in schema["properties"].items():
        place = f"{path}.{name}"
        if _has_section(place, one):
            yield from _below(place, {"description": one["description"], **one.get("items", one)})


def _section(path: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required") or ()
    lines = [
        f"## {path}",
        "",
        schema["description"].translate(ESCAPED),
        "",
        "| field | type | default | meaning |",
        "|---|---|---|---|",
    ]
    details = []
    for name, one in schema["properties"].items():
        text, default = _split_default(one)
        summary, rest = _split_summary(text.translate(ESCAPED))
        kind = ", ".join([_type(f"{path}.{name}", one), *_limits(one)])
        first = "**required**" if name in required else default.translate(ESCAPED)
        lines.append(f"| `{name}` | {kind} | {first} | {summary} |")
        if rest and not _has_section(f"{path}.{name}", one):
            details += [f"**`{name}`**: {rest}", ""]
    rules = _rules(path, schema)
    return "\n".join(
        [
            *lines,
            "",
            *details,
            *(["The API server rejects a value with these errors:", "", *rules, ""] if rules else []),
        ]
    )


def _type(path: str, one: Mapping[str, Any]) -> str:
    items = one.get("items")
    if path in KUBERNETES:
        return f"list of {KUBERNETES[path]}" if items else KUBERNETES[path]
    if items:
        if items["type"] == "object":
            return f"list of [objects](#{_anchor(path)})"
        return f"list of {_type(path, items)}" + ("" if "enum" in items else "s")
    if "properties" in one:
        return f"[object](#{_anchor(path)})"
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    return "map of strings" if "additionalProperties" in one else str(one["type"])


def _anchor(path: str) -> str:
    return path.lower().replace(".", "")


def _split_default(one: Mapping[str, Any]) -> tuple[str, str]:
    """A field's description without its last sentence about the default, and the default: the schema's, or in words."""
    text, named, words = one["description"].rpartition(" Defaults to ")
    if not named:
        return one["description"], ""
    value = one.get("default")
    return text, f"`{json.dumps(value)}`" if value not in (None, {}) else words.removesuffix(".")


def _split_summary(text: str) -> tuple[str, str]:
    """Split a description into the part that fits into a table's cell, and the rest."""
    if len(text) <= MAX_CELL:
        return text, ""
    summary, _, rest = text.partition(". ")
    return f"{summary}.", rest


def _limits(one: Mapping[str, Any]) -> Iterator[str]:
    if "minimum" in one and "maximum" in one:
        yield f"{one['minimum']} to {one['maximum']}"
    if one.get("type") == "array" and "maxItems" in one:
        yield f"at most {one['maxItems']}"


def _rules(path: str, schema: Mapping[str, Any]) -> list[str]:
    """List the messages of the rules for an object and its fields, each once.

    Objects in it have sections of their own.
    """
    messages = [rule["message"] for rule in schema.get("x-kubernetes-validations") or ()]
    for name, one in schema["properties"].items():
        if not _has_section(f"{path}.{name}", one):
            messages += _messages(one)
    return [f"- {message}.".translate(ESCAPED) for message in dict.fromkeys(messages)]


def _has_section(path: str, schema: Mapping[str, Any]) -> bool:
    return "properties" in schema.get("items", schema) and path not in KUBERNETES


def _messages(schema: Mapping[str, Any]) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations") or ():
        yield rule["message"]
    for one in (*(schema.get("properties") or {}).values(), schema.get("items"), schema.get("additionalProperties")):
        if isinstance(one, Mapping):
            yield from _messages(one)


if __name__ == "__main__":
    print(render(yaml.safe_load(CRD.read_text())), end="")
