"""Endpoints whose model answers at once with a fixed text. Their server is the overlay of the chart's default."""

from typing import Any

from tests.e2e.forebay import images
from tests.endpoints import endpoint
from tests.kubectl import Manifest

MODEL = {"image": {"reference": "forebay.local/smollm2-135m-instruct:1", "pullPolicy": "Never"}}
"""The demo's model, as a volume."""

CANNED_MODEL = "/opt/canned/model"

SMALL = {"requests": {"cpu": "50m"}, "limits": {"memory": "3Gi"}}

KV_CACHE = {"name": "KV_CACHE_MEMORY_BYTES", "value": "256M"}


def canned(name: str, **spec: Any) -> Manifest:
    """An endpoint whose server is real but for the model's forward pass."""
    env = spec.pop("env", [])
    base = {
        "image": images()["vllm-canned"],
        "model": CANNED_MODEL,
        "gpu": {"count": 0},
        "resources": SMALL,
    }
    return endpoint(name, **{**base, **spec}, env=[KV_CACHE, *env])
