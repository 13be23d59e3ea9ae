"""The chart's values become the operator's arguments."""

import json
import re

import pytest
import yaml

from forebay_operator.__main__ import build_parser
from forebay_operator.spec.inheritance import REFUSED_DOMAINS, REFUSED_KEYS
from tests.integration.rendered_chart import CHART, REPOSITORY, Helm, read_container


def test_the_operator_gets_the_server_images_unchanged(helm: Helm) -> None:
    rendered = helm("template", "forebay", str(CHART), f"--set={REPOSITORY}", "--set=server.cpuImage=r/server:1")
    assert "- --gpu-image=docker.io/vllm/vllm-openai:v0.32.0\n" in rendered.stdout
    assert "- --cpu-image=r/server:1\n" in rendered.stdout


def test_the_operator_gets_the_urls_of_the_gateways(helm: Helm) -> None:
    def urls(*values: str) -> list[str]:
        flags = [f"--set={value}" for value in (REPOSITORY, *values)]
        rendered = helm("template", "forebay", str(CHART), "--namespace=system", *flags).stdout
        return [line.partition("=")[2] for line in rendered.splitlines() if "--gateway-urls" in line]

    assert urls() == ["http://forebay-gateway.system.svc"]
    given = "gateway.service.port=8080", "gateway.urls={https://models.example.com,https://b.example.com:8443}"
    assert urls(*given) == [
        "http://forebay-gateway.system.svc:8080,https://models.example.com,https://b.example.com:8443"
    ]
    assert urls("gateway.enabled=false") == []
    hosts = [f"gateway.ingress.hosts[{place}].host={host}" for place, host in enumerate(("a.example", "*.b.example"))]
    hosted = "gateway.ingress.enabled=true", "gateway.urls={https://c.example,https://a.example}", *hosts
    tls = "gateway.ingress.tls[0].secretName=tls"
    assert urls(*hosted, tls) == ["http://forebay-gateway.system.svc,https://a.example,https://c.example"]
    for others in (hosted, (*hosted[1:], tls)):
        assert urls(*others) == ["http://forebay-gateway.system.svc,https://c.example,https://a.example"]


def test_the_operator_gets_the_keys_that_children_inherit(helm: Helm) -> None:
    given = "--set=inheritLabels={team,example.com/*}", "--set=inheritAnnotations={app.kubernetes.io/part-of}"
    rendered = helm("template", "forebay", str(CHART), f"--set={REPOSITORY}", *given).stdout
    assert "- --inherit-labels=team,example.com/*\n" in rendered
    assert "- --inherit-annotations=app.kubernetes.io/part-of\n" in rendered
    assert "--inherit" not in helm("template", "forebay", str(CHART), f"--set={REPOSITORY}").stdout


def test_the_chart_rejects_every_key_that_the_operator_rejects() -> None:
    template = (CHART / "templates/_names.tpl").read_text()
    (pattern,) = re.findall(r'regexMatch "(\^\(argocd[^"]+)"', template)
    keys = [*REFUSED_KEYS, *(f"{domain}/{name}" for domain in REFUSED_DOMAINS for name in ("*", "a"))]
    assert [key for key in keys if not re.match(pattern, key)] == []
    allowed = "team", "example.com/*", "app.kubernetes.io/part-of", "cluster-autoscaler.kubernetes.io/safe-to-evict"
    assert [key for key in allowed if re.match(pattern, key)] == []


@pytest.mark.parametrize(
    "window", ["Sat,Sun 02:00-05:00 Europe/Berlin", "Fri-Mon 22:00-06:00 UTC", "02:00-05:00 Etc/GMT+5"]
)
def test_the_operator_understands_the_window_of_the_chart(helm: Helm, window: str) -> None:
    values = [
        "--set=upgrades.mode=OnChange,upgrades.maxConcurrent=3",
        "--set-json",
        f"upgrades.window={json.dumps(window)}",
    ]
    rendered = helm("template", "forebay", str(CHART), f"--set={REPOSITORY}", *values)
    assert rendered.returncode == 0, rendered.stderr
    objects = [each for each in yaml.safe_load_all(rendered.stdout) if each]
    deployment = next(each for each in objects if (each["kind"], each["metadata"]["name"]) == ("Deployment", "forebay"))
    parsed = build_parser().parse_args(deployment["spec"]["template"]["spec"]["containers"][0]["args"])
    assert (parsed.upgrade_mode, parsed.upgrade_max_concurrent) == ("OnChange", 3)
    assert parsed.upgrade_window.text == window


DIGEST = f"sha256:{'1' * 64}"


@pytest.mark.parametrize(
    ("values", "arguments"),
    [
        ((), {"overlay": "Copy", "overlay-image": "registry.example/forebay-server:0.1.0"}),
        (("image.repository=forebay-operator",), {"overlay-image": "forebay-server:0.1.0"}),
        (
            ("server.overlay=ImageVolume", "server.image.repository=r/server", f"server.image.digest={DIGEST}"),
            {"overlay": "ImageVolume", "overlay-image": f"r/server@{DIGEST}"},
        ),
        (
            ("server.image.registry=r.example/", "server.image.repository=own/server", "server.image.tag=v2"),
            {"overlay-image": "r.example/own/server:v2"},
        ),
        (
            ("server.overlay=None", "server.image.pullPolicy=Always"),
            {"overlay": "None", "overlay-pull-policy": "Always", "pull-policy": "IfNotPresent"},
        ),
    ],
)
def test_the_operator_gets_the_overlay(helm: Helm, values: tuple[str, ...], arguments: dict[str, str]) -> None:
    settings = [f"--set={value}" for value in (REPOSITORY, *values)]
    rendered = list(yaml.safe_load_all(helm("template", "forebay", str(CHART), *settings).stdout))
    operator = read_container(rendered, "forebay")
    given = dict(each.removeprefix("--").split("=", 1) for each in operator["args"])
    assert {name: given[name] for name in arguments} == arguments
    parsed = build_parser().parse_args(operator["args"])
    assert parsed.overlay_image == given["overlay-image"]


def test_the_operator_gets_the_runtime_class_for_nvidia_gpus(helm: Helm) -> None:
    named = ("--set=server.nvidiaRuntimeClassName=nvidia",)
    for values, lines in (((), 0), (named, 1)):
        rendered = helm("template", "forebay", str(CHART), f"--set={REPOSITORY}", *values)
        assert rendered.stdout.count("- --nvidia-runtime-class=nvidia\n") == lines
        assert rendered.stdout.count("runtime-class") == lines


def test_the_operator_gets_the_settings_of_network_policies(helm: Helm) -> None:
    values = "networkPolicy.clusterCIDRs={10.0.0.0/8,fd00::/8},networkPolicy.allowedCIDRs={10.1.0.0/16}"
    rendered = helm("template", "forebay", str(CHART), "--namespace=own", f"--set={REPOSITORY}", f"--set={values}")
    made = [each for each in yaml.safe_load_all(rendered.stdout) if each and each["kind"] == "Deployment"]
    (operator,) = [each["spec"]["template"] for each in made if each["metadata"]["name"] == "forebay"]
    (container,) = operator["spec"]["containers"]
    assert {"--network-policies=true", "--cluster-cidrs=10.0.0.0/8,fd00::/8", "--allowed-cidrs=10.1.0.0/16"} <= set(
        container["args"]
    )
    (peers,) = [json.loads(each["value"]) for each in container["env"] if each["name"] == "FOREBAY_OPS_PEERS"]
    assert [peer["namespaceSelector"] for peer in peers[:2]] == 2 * [
        {"matchLabels": {"kubernetes.io/metadata.name": "own"}}
    ]
    assert peers[0]["podSelector"]["matchLabels"].items() <= operator["metadata"]["labels"].items()
    assert len(peers) == 2, "/metrics and /held are closed unless networkPolicy.from opens them"
