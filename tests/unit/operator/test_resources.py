"""The objects built for an endpoint."""

import base64
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from forebay_operator.labels import APPLIED_ANNOTATION
from forebay_operator.resources import (
    build_deployment,
    build_key_secret,
    build_network_policy,
    build_service,
    build_unwatched,
    list_obsolete,
)
from forebay_operator.resources.secret import build_control_secret
from forebay_operator.resources.template import replace_template
from forebay_operator.settings import Settings
from forebay_operator.spec import parse_endpoint
from tests.kubectl import Manifest
from tests.unit.operator.builders import SETTINGS, container, endpoint_manifest, env, pod_spec


def test_a_gpu_endpoint_requests_its_gpus_and_tolerates_their_taint() -> None:
    spec = pod_spec(gpu={"count": 2, "resource": "amd.com/gpu"}, resources={"requests": {"cpu": "4"}})
    assert spec["containers"][0]["resources"] == {
        "requests": {"cpu": "4", "amd.com/gpu": "2"},
        "limits": {"amd.com/gpu": "2"},
    }
    assert spec["tolerations"] == [{"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert spec["containers"][0]["image"] == "gpu:1"


def test_a_cpu_endpoint_requests_no_gpu() -> None:
    spec = pod_spec(gpu={"count": 0})
    assert "tolerations" not in spec
    assert spec["containers"][0]["resources"] == {}
    assert spec["containers"][0]["image"] == "cpu:1"


def test_the_users_image_wins() -> None:
    assert container(image="mine:2")["image"] == "mine:2"


@pytest.mark.parametrize(
    ("spec", "name", "value"),
    [
        ({}, "MODEL_NAME", "org/model"),
        ({"model": "oci://registry/a:1"}, "MODEL_NAME", "/model"),
        ({"model": "oci://registry/a:1"}, "OPENAI_SERVED_MODEL_NAME_OVERRIDE", "one"),
        ({"model": "/models/a"}, "MODEL_NAME", "/models/a"),
        ({"gpu": {"count": 4}}, "TENSOR_PARALLEL_SIZE", "4"),
        ({"gpu": {"count": 4}, "env": [{"name": "TENSOR_PARALLEL_SIZE", "value": "2"}]}, "TENSOR_PARALLEL_SIZE", "2"),
        ({"env": [{"name": "MAX_MODEL_LEN", "value": "64"}]}, "MAX_MODEL_LEN", "64"),
        ({"auth": {"mode": "None"}}, "FOREBAY_AUTH", "None"),
        ({}, "FOREBAY_AUTH", "APIKey"),
        ({"model": "hf://org/model:v1"}, "MODEL_NAME", "org/model"),
        ({"model": "hf://org/model:v1"}, "MODEL_REVISION", "v1"),
        ({"revision": "v1"}, "MODEL_REVISION", "v1"),
        ({"args": ["--seed 1", "--a=$(HF_TOKEN)"]}, "FOREBAY_ARGS", '["--seed", "1", "--a=$$(HF_TOKEN)"]'),
    ],
)
def test_variables(spec: dict[str, Any], name: str, value: str) -> None:
    assert env(**spec)[name] == {"name": name, "value": value}


def test_a_hub_model_keeps_its_own_name() -> None:
    assert "OPENAI_SERVED_MODEL_NAME_OVERRIDE" not in env()


def test_an_endpoint_without_args_and_revision_has_no_variables_for_them() -> None:
    """Endpoints of an earlier release must not restart."""
    assert not {"FOREBAY_ARGS", "MODEL_REVISION"} & env().keys()
    assert env(args=[], revision="") == env()


def test_a_variable_from_a_secret_stays_a_reference() -> None:
    token = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}}
    assert env(env=[token])["HF_TOKEN"] == token


@pytest.mark.parametrize(
    ("auth", "secret"),
    [({}, "one-api-key"), ({"mode": "APIKey", "secretName": "mine"}, "mine"), ({"mode": "None"}, None)],
)
def test_keys_are_mounted_as_files_from_a_secret(auth: Manifest, secret: str | None) -> None:
    mounted = [
        volume["secret"]["secretName"] for volume in pod_spec(auth=auth)["volumes"] if volume["name"] == "forebay-keys"
    ]
    assert mounted == ([secret] if secret else [])


@pytest.mark.parametrize("auth", [{}, {"mode": "None"}, {"secretName": "mine"}])
def test_control_has_its_own_token(auth: Manifest) -> None:
    spec = pod_spec(auth=auth)
    volume = {"name": "forebay-control", "secret": {"secretName": "one-control", "optional": True}}
    assert volume in spec["volumes"]
    mount = {"name": "forebay-control", "mountPath": "/run/forebay/control", "readOnly": True}
    assert mount in spec["containers"][0]["volumeMounts"]
    endpoint = parse_endpoint(endpoint_manifest(auth=auth))
    secret = build_control_secret(endpoint)
    assert secret["metadata"]["name"] == "one-control"
    token = base64.b64decode(secret["data"]["token"])
    assert len(token) >= 43
    assert token != base64.b64decode(build_control_secret(endpoint)["data"]["token"])


def test_a_model_image_is_mounted_read_only() -> None:
    spec = pod_spec(model="oci://registry/a:1")
    assert {"name": "forebay-model", "image": {"reference": "registry/a:1", "pullPolicy": "IfNotPresent"}} in spec[
        "volumes"
    ]
    mount = next(mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == "forebay-model")
    assert mount == {"name": "forebay-model", "mountPath": "/model", "readOnly": True}


def test_the_grace_period_covers_the_sleep_and_the_drain() -> None:
    spec = pod_spec()
    sleep = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] == sleep + int(env()["FOREBAY_DRAIN_SECONDS"]["value"]) + 15


def test_no_pod_can_reach_the_api_server_or_write_its_image() -> None:
    spec = pod_spec()
    assert spec["automountServiceAccountToken"] is False
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_service_exposes_the_api_port_alone() -> None:
    service = build_service(parse_endpoint(endpoint_manifest(service={"port": 8080, "annotations": {"a": "b"}})))
    assert service["spec"]["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080, "targetPort": "http"}]
    assert service["metadata"]["annotations"]["a"] == "b"


def test_every_generated_key_is_different() -> None:
    endpoint = parse_endpoint(endpoint_manifest())
    keys = {base64.b64decode(build_key_secret(endpoint)["data"]["api-key"]) for _ in range(10)}
    assert len(keys) == 10
    assert all(key.startswith(b"fb_") and len(key) >= 43 for key in keys)


def test_the_digest_follows_the_content_and_nothing_else() -> None:
    def digest(**spec: Any) -> str:
        endpoint = parse_endpoint(endpoint_manifest(**spec))
        draft = build_deployment(endpoint, SETTINGS)
        built = replace_template(endpoint, draft, None, begins_upgrade=False, is_complete=False)
        return str(built["metadata"]["annotations"][APPLIED_ANNOTATION])

    assert digest() == digest()
    assert digest() != digest(replicas=2)


def test_stuck_pods_do_not_block_pods_of_a_corrected_endpoint() -> None:
    def unavailable(stuck: frozenset[str]) -> object:
        built = build_deployment(parse_endpoint(endpoint_manifest()), SETTINGS, stuck)
        return built["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"]

    template = build_deployment(parse_endpoint(endpoint_manifest()), SETTINGS)["spec"]["template"]
    newest = template["metadata"]["annotations"]["forebay.dev/revision"]
    assert unavailable(frozenset()) == unavailable(frozenset({newest})) == 0
    assert unavailable(frozenset({"older"})) == unavailable(frozenset({"older", newest})) == "100%"


def test_pods_carry_the_revision_of_their_template_and_of_their_endpoint() -> None:
    def revision(uid: str = "u", stuck: frozenset[str] = frozenset(), **spec: Any) -> str:
        manifest = endpoint_manifest(**spec)
        manifest["metadata"]["uid"] = uid
        template = build_deployment(parse_endpoint(manifest), SETTINGS, stuck)["spec"]["template"]
        return str(template["metadata"]["annotations"]["forebay.dev/revision"])

    assert revision() == revision(replicas=3) == revision(stuck=frozenset({"older"}))
    assert len({revision(), revision(image="another"), revision(uid="another")}) == 3


def policy(settings: Settings = SETTINGS, **spec: Any) -> Manifest:
    built = build_network_policy(parse_endpoint(endpoint_manifest(**spec)), settings)
    assert built
    return dict(built["spec"])


def test_the_api_port_is_open_and_the_ops_port_is_restricted() -> None:
    peers = ({"podSelector": {"matchLabels": {"app": "operator"}}},)
    spec = policy(replace(SETTINGS, ops_peers=peers), networkPolicy={"ports": [9090]})
    assert spec["podSelector"] == {"matchLabels": {"forebay.dev/endpoint": "one"}}
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    ports = [{"protocol": "TCP", "port": port} for port in (8000, 9090)]
    assert spec["ingress"] == [
        {"ports": ports},
        {"ports": [{"protocol": "TCP", "port": 8001}], "from": list(peers)},
    ]
    assert policy()["ingress"][1].keys() == {"ports"}, "without names, every peer is allowed"


def reached(spec: Manifest, address: str) -> bool:
    """Whether the policy lets a pod reach an address, by any port."""
    dns, others = spec["egress"]
    assert [port["port"] for port in dns["ports"]] == [53, 53]
    blocks = [peer["ipBlock"] for peer in others["to"] if "ipBlock" in peer]
    found = ip_address(address)
    return any(
        found in ip_network(block["cidr"]) and not any(found in ip_network(each) for each in block.get("except", ()))
        for block in blocks
    )


@pytest.mark.parametrize(
    ("address", "by_default", "with_account", "in_a_closed_cluster"),
    [
        ("93.184.216.34", True, True, True),
        ("2606:4700::1", True, True, True),
        ("10.0.3.4", True, True, False),
        ("fd00:10::7", True, True, False),
        ("10.0.9.9", True, True, True),
        ("169.254.169.254", False, True, False),
        ("169.254.170.2", False, True, False),
        ("168.63.129.16", False, True, False),
        ("100.100.100.200", False, True, False),
        ("fd00:ec2::254", False, True, False),
    ],
)
def test_servers_reach_all_networks_except_metadata_and_denied_ones(
    address: str, by_default: bool, with_account: bool, in_a_closed_cluster: bool
) -> None:
    closed = replace(SETTINGS, cluster_cidrs=("10.0.0.0/8", "fd00:10::/32"), allowed_cidrs=("10.0.9.0/24",))
    assert reached(policy(), address) is by_default
    assert reached(policy(pod={"serviceAccountName": "cloud"}), address) is with_account
    assert reached(policy(closed), address) is in_a_closed_cluster


def test_pods_of_the_cluster_are_reachable_unless_their_networks_are_set() -> None:
    """Some network plugins do not apply address blocks to pods."""
    assert {"namespaceSelector": {}} in policy()["egress"][1]["to"]
    assert {"namespaceSelector": {}} not in policy(replace(SETTINGS, cluster_cidrs=("10.0.0.0/8",)))["egress"][1]["to"]


@pytest.mark.parametrize(
    ("spec", "settings"),
    [({"networkPolicy": {"create": False}}, SETTINGS), ({}, replace(SETTINGS, network_policies=False))],
    ids=["the endpoint", "the operator"],
)
def test_a_network_policy_can_be_disabled(spec: Manifest, settings: Settings) -> None:
    parsed = parse_endpoint(endpoint_manifest(**spec))
    assert "NetworkPolicy" not in {each["kind"] for each in build_unwatched(parsed, settings)}
    assert ("NetworkPolicy", "one") in list_obsolete(parsed, settings)
    assert "NetworkPolicy" in {each["kind"] for each in build_unwatched(parse_endpoint(endpoint_manifest()), SETTINGS)}
