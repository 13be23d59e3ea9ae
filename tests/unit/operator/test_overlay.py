"""How Forebay's server gets into pods whose image has only vLLM."""

from dataclasses import replace
from typing import Any

import pytest

from cluster.pins import ROOT
from forebay_operator.resources.pod_template.mounts import OVERLAY_MOUNT
from forebay_operator.resources.pod_template.pod_spec import build_pod_spec
from forebay_operator.settings import Settings
from forebay_operator.spec import OverlayMode, parse_endpoint
from overlay.byte_code import PLACE
from overlay.content import START_FILE
from tests.kubectl import Manifest
from tests.unit.operator.builders import SETTINGS, endpoint_manifest

EMPTY: Manifest = {"name": "forebay-overlay", "emptyDir": {}}
IMAGE: Manifest = {
    "name": "forebay-overlay",
    "image": {"reference": "forebay-server:1", "pullPolicy": "IfNotPresent"},
}


def build(mode: OverlayMode, **spec: Any) -> dict[str, Any]:
    """The pod spec, with the operator's setting `mode`."""
    settings: Settings = replace(SETTINGS, overlay=mode)
    return build_pod_spec(parse_endpoint(endpoint_manifest(**spec)), settings)


def variables(spec: Manifest) -> dict[str, str]:
    return {each["name"]: each["value"] for each in spec["containers"][0]["env"]}


@pytest.mark.parametrize(
    ("by_default", "spec", "volume", "is_copied"),
    [
        ("Copy", {}, EMPTY, True),
        ("ImageVolume", {}, IMAGE, False),
        ("None", {}, None, False),
        ("None", {"overlay": "Copy"}, EMPTY, True),
        ("Copy", {"overlay": "ImageVolume"}, IMAGE, False),
        ("ImageVolume", {"overlay": "None"}, None, False),
    ],
)
def test_the_endpoint_and_then_the_operator_choose_the_overlay(
    by_default: OverlayMode, spec: Manifest, volume: Manifest | None, is_copied: bool
) -> None:
    built = build(by_default, **spec)
    assert [each for each in built["volumes"] if each["name"] == "forebay-overlay"] == ([volume] if volume else [])
    assert ("initContainers" in built) is is_copied
    server = built["containers"][0]
    assert ("command" in server) is (volume is not None)
    mounts = [each for each in server["volumeMounts"] if each["name"] == "forebay-overlay"]
    mount = {"name": "forebay-overlay", "mountPath": OVERLAY_MOUNT, "readOnly": True}
    assert mounts == ([mount] if volume else []), "the image is mounted whole, without a subPath"


@pytest.mark.parametrize("mode", ["Copy", "ImageVolume"])
def test_the_pod_starts_the_file_of_the_overlay(mode: OverlayMode) -> None:
    server = build(mode)["containers"][0]
    assert server["command"] == ["python3", f"{OVERLAY_MOUNT}/server/{START_FILE}"]
    assert server["command"][1].startswith(f"{PLACE}/"), "as tracebacks show it"
    assert server["workingDir"] == "/cache"
    assert server["image"] == "gpu:1"


def test_the_pod_has_the_variables_that_an_image_of_the_server_sets() -> None:
    found = variables(build("Copy"))
    assert (found["HOME"], found["BASE_PATH"], found["PYTHONUNBUFFERED"]) == ("/cache", "/cache", "1")
    assert found["USER"], "a user ID need not be in /etc/passwd"
    dockerfile = (ROOT / "Dockerfile.server").read_text()
    assert "WORKDIR /cache\nENV HOME=/cache BASE_PATH=/cache PYTHONUNBUFFERED=1\n" in dockerfile
    own = [{"name": "BASE_PATH", "value": "/data"}]
    assert variables(build("Copy", env=own))["BASE_PATH"] == "/data"
    assert not {"HOME", "BASE_PATH", "USER"} & variables(build("None")).keys()


def test_the_init_container_is_as_restricted_as_the_server() -> None:
    built = build("Copy")
    (init,) = built["initContainers"]
    assert init["command"] == ["/copy", OVERLAY_MOUNT]
    assert init["securityContext"] == built["containers"][0]["securityContext"]
    assert init["volumeMounts"] == [{"name": "forebay-overlay", "mountPath": OVERLAY_MOUNT}]
    assert (init["image"], init["imagePullPolicy"]) == ("forebay-server:1", "IfNotPresent")


def test_the_init_container_adds_nothing_to_the_requests_of_the_pod() -> None:
    """A quota for each container accepts it, a Guaranteed pod stays Guaranteed, and it needs no GPU."""
    amounts = {"cpu": "4", "memory": "16Gi"}
    (init,) = build("Copy", gpu={"count": 2}, resources={"requests": amounts, "limits": amounts})["initContainers"]
    assert init["resources"] == {"requests": amounts, "limits": amounts}
    (init,) = build("Copy", gpu={"count": 2})["initContainers"]
    assert init["resources"] == {}
