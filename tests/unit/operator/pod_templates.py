"""The pod templates of typical endpoints, and those of the last release.

A template that differs from the one of the last release restarts the pods of such endpoints. After an intended change:

    python -m tests.unit.operator.pod_templates            writes data/pod_templates.yaml
    python -m tests.unit.operator.pod_templates --release  also takes these templates as those of the last release
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from forebay_operator import labels
from forebay_operator.resources import build_deployment
from forebay_operator.spec import parse_endpoint
from tests.integration.every_field import EVERYTHING
from tests.unit.operator.builders import SETTINGS, endpoint_manifest

DATA = Path(__file__).parent / "data"
TEMPLATES = DATA / "pod_templates.yaml"
RELEASED = DATA / "released_pod_templates.yaml"
"""The revision of each template in the last release, which is the commit that tests/e2e/upgrade-from names."""

VARIABLES = [
    {"name": "MAX_MODEL_LEN", "value": "8192"},
    {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
]

SPECS: Mapping[str, Any] = {
    "one GPU": {},
    "CPU": {"gpu": {"count": 0}},
    "two GPUs of AMD": {"gpu": {"count": 2, "resource": "amd.com/gpu", "product": "MI300X"}},
    "own image, variables and resources": {
        "image": "registry.example/own:1",
        "env": VARIABLES,
        "envFrom": [{"configMapRef": {"name": "settings"}}],
        "resources": {"requests": {"cpu": "4", "memory": "32Gi"}, "limits": {"memory": "64Gi"}},
    },
    "weights in an image, an adapter in a claim": {
        "model": "oci://registry.example/models/mistral:7b",
        "adapters": [{"name": "style", "source": "pvc://adapters/style"}],
    },
    "weights in a claim": {"model": "pvc://weights/mistral-7b", "auth": {"secretName": "keys"}},
    "cache, without keys": {"cache": {"size": "100Gi"}, "auth": {"mode": "None"}},
    "scaling with sleep": {"scaling": {"idle": "Sleep"}, "rollout": {"strategy": "Replace", "drainTimeout": "1m"}},
    "every field of the pod": {"pod": EVERYTHING},
    "revision and arguments": {"revision": "v1", "args": ["--seed=1", "--served-model-name a b"]},
    "image with the server": {"image": "registry.example/own:1", "overlay": "None"},
}
"""The specs, each by a name for its special property."""


def render() -> dict[str, Any]:
    """The pod template of each spec, as an operator with fixed settings renders it."""
    endpoints = {name: parse_endpoint(endpoint_manifest(**spec)) for name, spec in SPECS.items()}
    return {name: build_deployment(one, SETTINGS)["spec"]["template"] for name, one in endpoints.items()}


def revisions(templates: Mapping[str, Any]) -> dict[str, str]:
    """The revision of each template. The pods restart when it changes."""
    return {name: one["metadata"]["annotations"][labels.REVISION_ANNOTATION] for name, one in templates.items()}


def dump(content: Any) -> str:
    """YAML without anchors, for a readable diff."""
    dumper = yaml.SafeDumper
    dumper.ignore_aliases = lambda *_: True  # type: ignore[method-assign]
    return yaml.dump(_plain(content), Dumper=dumper, width=120)


def _plain(content: Any) -> Any:
    """Tuples as lists."""
    if isinstance(content, Mapping):
        return {name: _plain(value) for name, value in content.items()}
    return [_plain(item) for item in content] if isinstance(content, list | tuple) else content


def main() -> None:
    """Write the files."""
    templates = render()
    TEMPLATES.write_text(dump(templates))
    if "--release" in sys.argv[1:]:
        RELEASED.write_text(dump(revisions(templates)))


if __name__ == "__main__":
    main()
