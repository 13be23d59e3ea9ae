"""Other autoscalers, as docs/scaling.md shows them, and what KEDA publishes of itself."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from cluster.pins import ROOT
from cluster.tools import download_module
from tests.kubectl import Kubectl, Manifest, install_crd

PAGE = ROOT / "docs/scaling.md"

KEDA = Path(__file__).with_name("keda")
"""A Go module that names a release of KEDA by its hash."""


def read_example(field: str, value: object = ...) -> Manifest:
    """The one YAML example of the page that has this field at its top, and this value in it if one is given."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    examples: list[Manifest] = [yaml.safe_load(block) for block in blocks]
    (found,) = (each for each in examples if field in each and value in (..., each[field]))
    return found


def keda_folder() -> Path:
    """The files of KEDA's release."""
    return download_module(KEDA, "github.com/kedacore/keda/v2")


def install_keda_crd(kubectl: Kubectl) -> None:
    """Install the CRD of ScaledObjects from KEDA's release."""
    install_crd(kubectl, keda_folder() / "config/crd/bases/keda.sh_scaledobjects.yaml", "scaledobjects.keda.sh")


def read_trigger_parameters(trigger: str) -> dict[str, bool]:
    """The names in the metadata of a trigger that KEDA's release accepts, each with whether it is required.

    The CRD accepts any names: KEDA's operator reads them. KEDA publishes them as schema/generated.
    """
    schema: dict[str, Any] = json.loads((keda_folder() / "schema/generated/scalers-schema.json").read_text())
    (found,) = (each for each in schema["scalers"] if each["type"] == trigger)
    return {each["name"]: not each.get("optional") and "default" not in each for each in found["parameters"]}
