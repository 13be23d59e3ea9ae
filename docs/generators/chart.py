"""Write the generated files of the Helm chart: its README from values.yaml, and its copy of the CRD.

`python -m docs.generators.chart` writes both. Each key of values.yaml has a comment above it, which is its description.
"""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/forebay"
CRD = ROOT / "crds/inferenceendpoints.forebay.dev.yaml"
COPY = CHART / "files" / CRD.name
"""A copy and not a link: Flux omits links, and a chart is also copied alone."""

README = CHART / "README.md"
WIDTH = 120

HEAD = """# Helm chart of Forebay

<!-- Written by `make docs` from values.yaml, which is the one source. Don't edit. -->

The chart installs the operator, the gateway, a small Valkey for jobs, and the `InferenceEndpoint` CRD.

```
helm install forebay charts/forebay --namespace forebay-system --create-namespace --values my-values.yaml
```

`image.repository` is the only value without a usable default. The schema of the chart rejects unknown keys. On
OpenShift, add `--values charts/forebay/values-openshift.yaml`.

The how-to guides [Chart values](../../docs/how-to/chart-values.md),
[Expose the gateway](../../docs/how-to/expose-the-gateway.md),
[Caches and defaults](../../docs/how-to/caches-and-defaults.md) and [OpenShift](../../docs/how-to/openshift.md) have
examples, and say what was tested. A test renders each value with Helm 4.3, and applies the objects to a real API server
in a dry run. Other tests install the chart on a kind cluster: without Valkey, with Valkey, and with Valkey's volume.
"""


class Undocumented(Exception):
    """A key has no comment. The message names it."""


@dataclass(frozen=True)
class Value:
    """A key of values.yaml that a user sets: `default` is None for an object whose keys are described one by one."""

    path: str
    text: str
    default: str | None


def read_values(text: str) -> Iterator[Value]:
    """All keys in the order of the file.

    Raises:
        Undocumented: a key has no comment.
    """
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    yield from _read(root, "", text.splitlines())


def _read(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[Value]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        described = _comment_above(key, lines)
        if not described:
            raise Undocumented(f"values.yaml:{key.start_mark.line + 1}: {path} has no comment that describes it")
        if isinstance(value, yaml.MappingNode) and any(_comment_above(below, lines) for below, _ in value.value):
            yield Value(path, described, None)
            yield from _read(value, f"{path}.", lines)
        else:
            yield Value(path, described, json.dumps(yaml.safe_load(yaml.serialize(value)), ensure_ascii=False))


def _comment_above(key: yaml.Node, lines: list[str]) -> str:
    """The comment directly above a key, in one line."""
    indent, line = " " * key.start_mark.column + "#", key.start_mark.line
    if lines[line][: key.start_mark.column].strip():
        return ""  # a key within braces
    found: list[str] = []
    while line and lines[line - 1].startswith(indent):
        line -= 1
        found.insert(0, lines[line].removeprefix(indent).strip())
    return " ".join(found)


def render(values: str) -> str:
    """The README for the text of a values.yaml."""
    found = list(read_values(values))
    parts = [HEAD, "## Values", ""]
    parts += [_entry(value) for value in found if "." not in value.path and value.default is not None]
    for value in found:
        if value.default is None and "." not in value.path:
            parts += ["", f"### {value.path}", "", _wrap(value.text), ""]
        elif "." in value.path:
            parts.append(_entry(value))
    return "\n".join(parts) + "\n"


def _entry(value: Value) -> str:
    default = "" if value.default is None else f" Default: `{value.default}`"
    item = f"- **`{value.path}`**: {_as_code(value.text)}{default}"
    return _wrap(item, "  ")


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _as_code(text: str) -> str:
    return text.replace("<", "&lt;").replace("|", "\\|")


def main() -> None:
    """Write the files."""
    README.write_text(render((CHART / "values.yaml").read_text()))
    COPY.write_bytes(CRD.read_bytes())


if __name__ == "__main__":
    main()
