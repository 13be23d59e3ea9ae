"""Node selection, volumes and GPU parallelism of an endpoint's pods."""

import json
from typing import Any

import pytest

from forebay_operator.resources.pod_template.parallelism import find_tensor_parallel_size
from forebay_operator.resources.pod_template.pod_spec import build_pod_spec
from forebay_operator.settings import Settings
from forebay_operator.spec import parse_endpoint
from tests.kubectl import Manifest
from tests.unit.operator.builders import container, endpoint_manifest, env, pod_spec


def mounts(**spec: Any) -> dict[str, Manifest]:
    return {mount["mountPath"]: mount for mount in container(**spec)["volumeMounts"]}


def volume(name: str, **spec: Any) -> Manifest:
    return next(one for one in pod_spec(**spec)["volumes"] if one["name"] == name)


def test_a_product_is_chosen_by_the_label_of_its_vendor() -> None:
    assert pod_spec(gpu={"product": "NVIDIA-L4"})["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L4"}
    amd = {"resource": "amd.com/gpu", "product": "AMD_Instinct_MI300X_OAM"}
    assert pod_spec(gpu=amd)["nodeSelector"] == {"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}
    assert "nodeSelector" not in pod_spec(gpu={"count": 0, "product": "NVIDIA-L4"})


def test_a_share_of_a_gpu_tolerates_the_taint_of_complete_gpus() -> None:
    spec = pod_spec(gpu={"resource": "nvidia.com/mig-3g.20gb"})
    assert [toleration["key"] for toleration in spec["tolerations"]] == ["nvidia.com/gpu", "nvidia.com/mig-3g.20gb"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, "nvidia"),
        ({"gpu": {"resource": "nvidia.com/mig-3g.20gb"}}, "nvidia"),
        ({"pod": {"runtimeClassName": "nvidia-legacy"}}, "nvidia-legacy"),
        ({"gpu": {"resource": "amd.com/gpu"}}, None),
        ({"gpu": {"count": 0}}, None),
    ],
)
def test_pods_with_nvidia_gpus_get_the_runtime_class_of_the_cluster(spec: Manifest, expected: str | None) -> None:
    settings = Settings("gpu", "cpu", nvidia_runtime_class="nvidia")
    assert build_pod_spec(parse_endpoint(endpoint_manifest(**spec)), settings).get("runtimeClassName") == expected
    if not spec:
        assert "runtimeClassName" not in pod_spec()


def test_pod_fields_of_the_user_are_applied() -> None:
    given: dict[str, Any] = {
        "nodeSelector": {"pool": "a"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
        "serviceAccountName": "reader",
        "imagePullSecrets": [{"name": "registry"}],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": False}],
    }
    spec = pod_spec(pod=given, gpu={"product": "NVIDIA-L4"})
    assert spec["nodeSelector"] == {"pool": "a", "nvidia.com/gpu.product": "NVIDIA-L4"}
    assert [toleration["key"] for toleration in spec["tolerations"]] == ["nvidia.com/gpu", "spot"]
    for name in ("affinity", "priorityClassName", "runtimeClassName", "serviceAccountName", "imagePullSecrets"):
        assert spec[name] == given[name]
    assert given["volumes"][0] in spec["volumes"]
    assert {"name": "data", "mountPath": "/data"} in spec["containers"][0]["volumeMounts"]
    assert spec["automountServiceAccountToken"] is False


def test_pods_are_spread_by_the_endpoints_own_label_unless_another_is_named() -> None:
    zone = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    own = {"matchLabels": {"team": "a"}}
    spread = pod_spec(pod={"topologySpreadConstraints": [zone, {**zone, "labelSelector": own}]})
    selectors = [one["labelSelector"] for one in spread["topologySpreadConstraints"]]
    assert selectors == [{"matchLabels": {"forebay.dev/endpoint": "one"}}, own]


@pytest.mark.parametrize(
    ("cache", "source"),
    [
        ({}, {"emptyDir": {}}),
        ({"claimName": "mine"}, {"persistentVolumeClaim": {"claimName": "mine"}}),
        ({"size": "10Gi"}, {"persistentVolumeClaim": {"claimName": "one-cache"}}),
    ],
)
def test_downloads_are_stored_in_the_cache(cache: Manifest, source: Manifest) -> None:
    name = mounts(cache=cache)["/cache"]["name"]
    assert volume(name, cache=cache) == {"name": name, **source}
    assert "readOnly" not in mounts(cache=cache)["/cache"]


def test_weights_in_a_claim_are_mounted_read_only() -> None:
    model = "pvc://weights/llama/8b"
    mount = mounts(model=model)["/model"]
    assert mount["readOnly"] is True
    claim = {"claimName": "weights", "readOnly": True}
    assert volume(mount["name"], model=model)["persistentVolumeClaim"] == claim
    assert env(model=model)["MODEL_NAME"]["value"] == "/model/llama/8b"


def test_one_claim_used_several_times_is_one_volume() -> None:
    adapters = [{"name": "a", "source": "pvc://shared/a"}, {"name": "b", "source": "pvc://other/b"}]
    spec: dict[str, Any] = {"model": "pvc://shared/m", "cache": {"claimName": "shared"}, "adapters": adapters}
    claims = [one["persistentVolumeClaim"] for one in pod_spec(**spec)["volumes"] if "persistentVolumeClaim" in one]
    assert claims == [{"claimName": "shared"}, {"claimName": "other", "readOnly": True}]
    found = mounts(**spec)
    assert found["/cache"]["name"] == found["/model"]["name"] == found["/adapters/a"]["name"]
    assert [found[path].get("readOnly") for path in ("/cache", "/model", "/adapters/a")] == [None, True, True]
    names = [one["name"] for one in pod_spec(**spec)["volumes"]]
    assert len(names) == len(set(names))


def test_adapters_can_be_in_the_hub_in_claims_and_in_images() -> None:
    adapters = [
        {"name": "hub", "source": "org/adapter"},
        {"name": "claim", "source": "pvc://claim/a"},
        {"name": "image", "source": "oci://registry/a:1"},
    ]
    variables = env(adapters=adapters)
    assert variables["ENABLE_LORA"]["value"] == "true"
    assert json.loads(str(variables["LORA_MODULES"]["value"])) == [
        {"name": "hub", "path": "org/adapter", "base_model_name": "org/model"},
        {"name": "claim", "path": "/adapters/claim/a", "base_model_name": "org/model"},
        {"name": "image", "path": "/adapters/image", "base_model_name": "org/model"},
    ]
    assert "ENABLE_LORA" not in env()


def test_a_bucket_is_read_by_vllm_itself() -> None:
    assert env(model="s3://bucket/model")["MODEL_NAME"]["value"] == "s3://bucket/model"
    assert env(model="s3://bucket/model")["OPENAI_SERVED_MODEL_NAME_OVERRIDE"]["value"] == "one"


@pytest.mark.parametrize(("gpus", "size"), [(0, "2Gi"), (1, "2Gi"), (8, "9Gi")])
def test_shared_memory_follows_the_gpus(gpus: int, size: str) -> None:
    gpu = {"count": gpus}
    assert volume("forebay-shm", gpu=gpu)["emptyDir"] == {"medium": "Memory", "sizeLimit": size}


@pytest.mark.parametrize(
    ("gpus", "variables", "size"),
    [
        (1, {}, None),
        (4, {}, 4),
        (4, {"TENSOR_PARALLEL_SIZE": "2"}, None),
        (8, {"PIPELINE_PARALLEL_SIZE": "2"}, 4),
        (8, {"PIPELINE_PARALLEL_SIZE": "2", "DATA_PARALLEL_SIZE": "2"}, 2),
        (4, {"DATA_PARALLEL_SIZE": "4"}, None),
        (4, {"PIPELINE_PARALLEL_SIZE": "3"}, None),
        (4, {"PIPELINE_PARALLEL_SIZE": "many"}, None),
        (4, {"PIPELINE_PARALLEL_SIZE": "0"}, None),
        (4, {"VLLM_EXTRA_ARGS": "--dtype half -tp 2"}, None),
        (4, {"VLLM_EXTRA_ARGS": "--pipeline-parallel-size=2"}, None),
        (4, {"VLLM_EXTRA_ARGS": "--dtype half"}, 4),
        (4, {"VLLM_CONFIG_FILE": "/config.yaml"}, None),
    ],
)
def test_the_tensor_parallel_size_follows_the_gpus_and_the_settings(
    gpus: int, variables: dict[str, str], size: int | None
) -> None:
    given = [{"name": name, "value": value} for name, value in variables.items()]
    assert find_tensor_parallel_size(gpus, given) == size


@pytest.mark.parametrize(
    ("args", "size"), [(["-tp 2"], None), (["--data_parallel_size", "2"], None), (["--seed=1"], 4)]
)
def test_a_parallel_size_in_args_is_the_users_choice(args: list[str], size: int | None) -> None:
    words = parse_endpoint(endpoint_manifest(args=args)).arguments
    assert find_tensor_parallel_size(4, (), words) == size


def test_a_parallel_size_from_a_secret_is_read_by_the_server() -> None:
    given = {"name": "PIPELINE_PARALLEL_SIZE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    assert find_tensor_parallel_size(4, [given]) is None
