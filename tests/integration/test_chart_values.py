"""Helm itself rejects invalid values and says why. It needs no cluster for that."""

import json
import re
from pathlib import Path

import pytest
import yaml

from cluster.pins import ROOT
from examples.demo import chart_values
from forebay_operator.spec import parse_defaults
from tests.integration.rendered_chart import CHART, REPOSITORY, Helm, read_container
from tests.kubectl import Manifest


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ("logLevel=LOUD", "at '/logLevel': value must be one of 'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        ("image.pullPolicy=Maybe", "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("server.pullPolicy=Maybe", "at '/server/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("loglevel=INFO", "additional properties 'loglevel' not allowed"),
        ("server.image=x", "at '/server/image': got string, want object"),
        ("server.image.digest=sha256", "at '/server/image/digest': 'sha256' does not match pattern"),
        ("server.overlay=Guess", "at '/server/overlay': value must be one of 'Copy', 'ImageVolume', 'None'"),
        ("crds.install=never", "at '/crds/install': got string, want boolean"),
        ("gateway.homeNamespace=A", "at '/gateway/homeNamespace': 'A' does not match pattern"),
        ("fullnameOverride=-a", "at '/fullnameOverride': '-a' does not match pattern"),
        ("namespaceShare=0", "at '/namespaceShare': exclusiveMinimum: got 0, want 0"),
        ("gateway.trustedProxies={10.0.0.1}", "at '/gateway/trustedProxies/0': '10.0.0.1' does not match pattern"),
        ("gateway.replicas=0", "at '/gateway/replicas': minimum: got 0, want 1"),
        ("valkey.storage=2GB", "at '/valkey/storage': '2GB' does not match pattern"),
        ("gateway.files.s3.bucket=A", "at '/gateway/files/s3/bucket': 'A' does not match pattern"),
        (
            "gateway.files.s3.endpoint=s3.example.com",
            "at '/gateway/files/s3/endpoint': 's3.example.com' does not match",
        ),
        ("valkey.create=false,gateway.files.s3.bucket=files", "gateway.files.s3.bucket needs valkey.create"),
        ("gateway.urls={https://a/v2}", "at '/gateway/urls/0': 'https://a/v2' does not match pattern"),
        ("inheritLabels={*}", "inheritLabels: * is not possible, as children never get all keys"),
        (
            "inheritLabels={team,app.kubernetes.io/instance}",
            "inheritLabels: app.kubernetes.io/instance cannot be inherited, as Argo CD, Flux,",
        ),
        ("inheritAnnotations={argocd.argoproj.io/*}", "inheritAnnotations: argocd.argoproj.io/* cannot be inherited"),
        ("inheritLabels={a b}", "at '/inheritLabels/0': 'a b' does not match pattern"),
        ("gateway.settings.hold_secnds=900", "at '/gateway/settings': additional properties 'hold_secnds' not allowed"),
        ("gateway.settings.hold_seconds=long", "at '/gateway/settings/hold_seconds': got string, want number"),
        ("gateway.ingress.enabled=true", "gateway.ingress.hosts is needed"),
        ("gateway.httpRoute.enabled=true", "gateway.httpRoute.parentRefs is needed"),
        ("valkey.image=docker.io/valkey/valkey:8.1", "at '/valkey/image': got string, want object"),
        ("image.digest=sha256:1", "at '/image/digest': 'sha256:1' does not match pattern"),
        ("proxy.httpProxy=proxy.example:3128", "at '/proxy/httpProxy': 'proxy.example:3128' does not match pattern"),
        ("server.podSecurityContext.runAsUser=0", "at '/server/podSecurityContext/runAsUser': minimum: got 0, want 1"),
        ("server.cache.size=100GB", "at '/server/cache/size': '100GB' does not match pattern"),
        ("podLabels.a=true", "at '/podLabels/a': got boolean, want string"),
        ("valkey.maxMemory=1G", "at '/valkey/maxMemory': '1G' does not match pattern"),
        ("upgrades.mode=Never", "at '/upgrades/mode': value must be one of 'Automatic', 'OnChange', 'Manual'"),
        ("upgrades.maxConcurrent=0", "at '/upgrades/maxConcurrent': minimum: got 0, want 1"),
        ("upgrades.window=Sat 02:00-05:00", "at '/upgrades/window': 'Sat 02:00-05:00' does not match pattern"),
        ("image.repository=", "image.repository is needed: no image is published yet; build Dockerfile.operator"),
    ],
)
def test_invalid_values_are_rejected_with_a_message(helm: Helm, values: str, sentence: str) -> None:
    refused = helm("template", "forebay", str(CHART), f"--set={REPOSITORY}", f"--set={values}")
    assert refused.returncode != 0
    assert sentence in refused.stderr


VALKEYS = {"StatefulSet", "Service", "NetworkPolicy"}


@pytest.mark.parametrize(
    ("values", "jobs", "secret", "made"),
    [
        ([], "valkey", "forebay-valkey", VALKEYS),
        (["gateway.replicas=1"], "valkey", "forebay-valkey", VALKEYS),
        (["valkey.existingSecret=own"], "valkey", "own", set()),
        (["valkey.existingSecret=own", "valkey.create=true", "gateway.replicas=1"], "valkey", "own", set()),
        (["valkey.create=false"], "off", None, set()),
        (["valkey.create=false", "gateway.replicas=1"], "memory", None, set()),
    ],
)
def test_the_values_decide_where_jobs_are_stored(
    helm: Helm, values: list[str], jobs: str, secret: str | None, made: set[str]
) -> None:
    settings = [f"--set={value}" for value in (REPOSITORY, *values)]
    rendered = list(yaml.safe_load_all(helm("template", "forebay", str(CHART), *settings).stdout))
    gateway, operator = (read_container(rendered, name) for name in ("forebay-gateway", "forebay"))
    assert f"--jobs={jobs}" in gateway["args"]
    urls = [
        each["valueFrom"]["secretKeyRef"] for each in gateway["env"] if each["name"] == "FOREBAY_GATEWAY_VALKEY_URL"
    ]
    assert urls == ([{"name": secret, "key": "url"}] if secret else [])
    assert {each["kind"] for each in rendered if each["metadata"]["name"] == "forebay-valkey"} == made
    assert ("--valkey-service=forebay-valkey" in operator["args"]) == bool(made)
    named = [role for role in rendered if role["kind"] == "Role" and "forebay-valkey" in json.dumps(role)]
    assert [role["metadata"]["name"] for role in named] == (["forebay-gateways"] if made else [])


@pytest.mark.parametrize("values", [[], ["valkey.storage="]])
def test_every_pod_passes_the_restricted_pod_security_standard(helm: Helm, values: list[str]) -> None:
    settings = [f"--set={value}" for value in (REPOSITORY, *values)]
    rendered = yaml.safe_load_all(helm("template", "forebay", str(CHART), *settings).stdout)
    pods = [each["spec"]["template"]["spec"] for each in rendered if each["kind"] in {"Deployment", "StatefulSet"}]
    assert len(pods) == 3
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {kind for volume in pod.get("volumes", ()) for kind in volume} <= {"name", "secret", "emptyDir"}
        assert [each["securityContext"] for each in pod["containers"]] == [
            {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        ]


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("llm", "llm-forebay"),
        ("forebay.prod", "forebay-prod"),
        ("forebay-" + 45 * "a", "forebay-" + 37 * "a"),
        (44 * "a", 44 * "a"),
    ],
)
def test_any_release_name_gives_names_that_kubernetes_accepts(helm: Helm, release: str, name: str) -> None:
    rendered = list(yaml.safe_load_all(helm("template", release, str(CHART), f"--set={REPOSITORY}").stdout))
    named = {each["kind"]: each["metadata"]["name"] for each in rendered if each["kind"] in {"Service", "StatefulSet"}}
    assert named == {"Service": f"{name}-valkey", "StatefulSet": f"{name}-valkey"}
    assert f"--gateway-service={name}-gateway" in read_container(rendered, name)["args"]
    assert {
        each["metadata"]["labels"]["app.kubernetes.io/instance"] for each in rendered if each["kind"] == "Role"
    } == {release}


def test_a_release_name_that_no_service_may_have_is_rejected(helm: Helm) -> None:
    refused = helm("template", "1forebay", str(CHART), f"--set={REPOSITORY}")
    assert "must begin with a letter" in refused.stderr
    assert helm("template", "1forebay", str(CHART), f"--set={REPOSITORY}", "--set=fullnameOverride=a").returncode == 0


def test_names_that_yaml_would_read_as_numbers_or_booleans_stay_text(helm: Helm) -> None:
    texts = ("valkey.existingSecret=1", "gateway.files.s3.existingSecret=2")
    settings = [f"--set-string={each}" for each in texts]
    values = f"--set={REPOSITORY},gateway.files.s3.bucket=files", '--set-json=watchNamespaces=["3","no"]', *settings
    rendered = list(yaml.safe_load_all(helm("template", "forebay", str(CHART), "--namespace=123", *values).stdout))
    assert {each["metadata"].get("namespace") for each in rendered} == {None, "123", "3", "no"}
    subjects = [subject for each in rendered for subject in each.get("subjects", ())]
    assert {subject["namespace"] for subject in subjects} == {"123"}
    variables = [each.get("valueFrom", {}) for each in read_container(rendered, "forebay-gateway")["env"]]
    assert {each["secretKeyRef"]["name"] for each in variables if "secretKeyRef" in each} == {"1", "2"}
    classed = f"--set={REPOSITORY}", "--set-string=valkey.storageClassName=4"
    valkey = list(yaml.safe_load_all(helm("template", "forebay", str(CHART), *classed).stdout))
    (found,) = [each["spec"] for each in valkey if each["kind"] == "StatefulSet"]
    assert found["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "4"


def test_no_password_is_rendered_and_two_renderings_are_the_same(helm: Helm) -> None:
    one, two = (helm("template", "forebay", str(CHART), f"--set={REPOSITORY}").stdout for _ in range(2))
    assert one == two
    assert [each for each in yaml.safe_load_all(one) if each and each["kind"] == "Secret"] == []
    assert "requirepass" not in one


@pytest.mark.parametrize(
    ("values", "claimed", "volumes"),
    [
        ([], [{"resources": {"requests": {"storage": "2Gi"}}}], ["password"]),
        (
            ["valkey.storage=5Gi", "valkey.storageClassName=fast"],
            [{"storageClassName": "fast", "resources": {"requests": {"storage": "5Gi"}}}],
            ["password"],
        ),
        (["valkey.storage="], [], ["password", "data"]),
    ],
)
def test_valkey_has_the_volume_that_the_values_describe(
    helm: Helm, values: list[str], claimed: list[Manifest], volumes: list[str]
) -> None:
    settings = [f"--set={value}" for value in (REPOSITORY, *values)]
    rendered = helm("template", "forebay", str(CHART), *settings, "--show-only=templates/valkey.yaml")
    (found,) = [each["spec"] for each in yaml.safe_load_all(rendered.stdout) if each["kind"] == "StatefulSet"]
    claims = [each["spec"] for each in found.get("volumeClaimTemplates", [])]
    assert claims == [{"accessModes": ["ReadWriteOnce"], **each} for each in claimed]
    assert [each["name"] for each in found["template"]["spec"]["volumes"]] == volumes


def test_the_demo_has_jobs_without_a_volume(helm: Helm) -> None:
    names = "operator", "forebay-server", "vllm-cpu", "valkey"
    values = chart_values({name: f"own/{name}:1" for name in names})
    rendered = helm("template", "forebay", str(CHART), f"--set-json={json.dumps(values)}")
    assert rendered.returncode == 0, rendered.stderr
    (found,) = [each["spec"] for each in yaml.safe_load_all(rendered.stdout) if each and each["kind"] == "StatefulSet"]
    assert "volumeClaimTemplates" not in found
    assert found["template"]["spec"]["containers"][0]["image"] == "own/valkey:1"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("logLevel=INFO", "Their pods get Forebay's server from registry.example/forebay-server:0.1.0 (overlay Copy)."),
        ("server.overlay=None", "These images must have Forebay's server, because server.overlay is None"),
    ],
)
def test_the_notes_say_how_the_server_gets_into_pods(helm: Helm, value: str, sentence: str) -> None:
    dry = "--dry-run=client", f"--set={REPOSITORY}", f"--set={value}"
    assert sentence in helm("install", "forebay", str(CHART), *dry).stdout.partition("\nNOTES:\n")[2]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("logLevel=INFO", "kubectl get pvc,pods -n default -l app.kubernetes.io/name=forebay-valkey"),
        ("valkey.storage=", "It has no volume (valkey.storage is empty): jobs, results and files are lost"),
        ("valkey.existingSecret=own", "Their jobs are in the Valkey of the Secret own."),
        ("valkey.create=false", "are off. They need valkey.create=true"),
        (
            "gateway.ingress.enabled=true,gateway.ingress.hosts[0].host=llm.example",
            "The Ingress serves it at http://llm.example/v2/ID/openai/v1.",
        ),
        (
            "gateway.httpRoute.enabled=true,gateway.httpRoute.parentRefs[0].name=public",
            "The HTTPRoute serves it at https://HOST/v2/ID/openai/v1",
        ),
    ],
)
def test_the_notes_say_where_jobs_are_stored_and_how_to_call_endpoints(helm: Helm, value: str, sentence: str) -> None:
    dry = "--dry-run=client", f"--set={REPOSITORY}", f"--set={value}"
    notes = helm("install", "forebay", str(CHART), *dry).stdout.partition("\nNOTES:\n")[2]
    assert sentence in notes
    assert ("stays Pending" in notes) == (not value.startswith("valkey."))


def test_files_are_stored_in_the_bucket_of_the_values(helm: Helm) -> None:
    bucket = ("bucket=files", "endpoint=https://s3.example", "prefix=a/b", "pathStyle=false", "existingSecret=own")
    values = ["gateway.replicas=1", *(f"gateway.files.s3.{value}" for value in bucket)]
    settings = [f"--set={value}" for value in (REPOSITORY, *values)]
    identity = "--set-json=gateway.serviceAccount.annotations=" + json.dumps({"example.com/role": "r"})
    rendered = list(yaml.safe_load_all(helm("template", "forebay", str(CHART), *settings, identity).stdout))
    named = {each["kind"]: each for each in rendered if each["metadata"]["name"] == "forebay-gateway"}
    (container,) = named["Deployment"]["spec"]["template"]["spec"]["containers"]
    asked = {each for each in container["args"] if each.startswith("--files-")}
    assert asked == {
        "--files-bucket=files",
        "--files-endpoint=https://s3.example",
        "--files-region=",
        "--files-prefix=a/b",
        "--files-style=virtual",
    }
    keys = {
        each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"] if each["name"].startswith("AWS_")
    }
    assert {name: key["optional"] for name, key in keys.items()} == {
        "AWS_ACCESS_KEY_ID": False,
        "AWS_SECRET_ACCESS_KEY": False,
        "AWS_SESSION_TOKEN": True,
    }
    assert {key["name"] for key in keys.values()} == {"own"}
    assert named["ServiceAccount"]["metadata"]["annotations"] == {"example.com/role": "r"}


def test_in_namespaced_mode_no_permission_reaches_other_namespaces(helm: Helm) -> None:
    rendered = helm("template", "forebay", str(CHART), f"--set={REPOSITORY}", "--set=watchNamespaces={a,b}")
    roles = [each for each in yaml.safe_load_all(rendered.stdout) if each["kind"].endswith(("Role", "RoleBinding"))]
    ours = {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in roles}
    everywhere, at_home = ("forebay", "forebay-gateway"), ("forebay-lease", "forebay-gateways", "forebay-gateway-keys")
    assert ours == {
        *((kind, namespace, name) for kind in ("Role", "RoleBinding") for namespace in "ab" for name in everywhere),
        *((kind, "default", name) for kind in ("Role", "RoleBinding") for name in at_home),
        ("ClusterRole", None, "forebay-view"),
        ("ClusterRole", None, "forebay-edit"),
    }
    assert rendered.stdout.count("- --watch-namespaces=a,b\n") == 2


def test_only_the_operators_probes_and_metrics_are_reachable(helm: Helm) -> None:
    """This tests only the object. The cluster's network plugin enforces it."""
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    peers = "--set-json=networkPolicy.from=" + json.dumps([monitoring])
    opened = [{"ports": [{"port": "health"}], "from": [monitoring]}]
    for values, rules in (((), []), ((peers,), opened)):
        rendered = helm(
            "template", "forebay", str(CHART), f"--set={REPOSITORY}", "--set=gateway.enabled=false", *values
        )
        found = {each["kind"]: each["spec"] for each in yaml.safe_load_all(rendered.stdout) if each and "spec" in each}
        policy, pod = found["NetworkPolicy"], found["Deployment"]["template"]
        assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert (policy["policyTypes"], policy.get("ingress", [])) == (["Ingress"], rules)
        assert [port["name"] for port in pod["spec"]["containers"][0]["ports"]] == ["health"]
    whole = helm("template", "forebay", str(CHART), f"--set={REPOSITORY}", peers).stdout
    policies = [each for each in yaml.safe_load_all(whole) if each and each["kind"] == "NetworkPolicy"]
    (gateway,) = [each["spec"] for each in policies if each["metadata"]["name"] == "forebay-gateway"]
    clients, operators = gateway["ingress"]
    assert clients == {"ports": [{"port": "http"}, {"port": 20000, "endPort": 29999}]}
    labels = {"app.kubernetes.io/name": "forebay-operator", "app.kubernetes.io/instance": "forebay"}
    own, monitors = operators["from"]
    assert own == {"podSelector": {"matchLabels": labels}}
    assert monitors == monitoring
    off = helm("template", "forebay", str(CHART), f"--set={REPOSITORY}", "--set=networkPolicy.create=false")
    assert "kind: NetworkPolicy\n" not in off.stdout


def test_a_single_replica_has_no_disruption_budget_that_would_block_a_drain(helm: Helm) -> None:
    for replicas, budgets in (("1", 0), ("2", 2)):
        values = f"--set=replicas={replicas}", f"--set=gateway.replicas={replicas}"
        rendered = helm("template", "forebay", str(CHART), f"--set={REPOSITORY}", *values)
        assert rendered.stdout.count("kind: PodDisruptionBudget") == budgets


HOW_TO = ("chart-values", "expose-the-gateway", "caches-and-defaults", "openshift")


def blocks_of(page: str) -> list[str]:
    """The blocks of values on a how-to page. A manifest has an apiVersion at its begin."""
    text = (ROOT / f"docs/how-to/{page}.md").read_text()
    return [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if not block.startswith("apiVersion")]


@pytest.mark.parametrize(
    "block",
    [pytest.param(block, id=f"{page}-{place}") for page in HOW_TO for place, block in enumerate(blocks_of(page))],
)
def test_the_values_of_the_how_to_pages_render(helm: Helm, block: str, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(block)
    rendered = helm("template", "forebay", str(CHART), f"--set={REPOSITORY}", f"--values={tmp_path / 'values.yaml'}")
    assert rendered.returncode == 0, rendered.stderr
    objects = [each for each in yaml.safe_load_all(rendered.stdout) if each]
    (operator,) = (
        each for each in objects if each["kind"] == "Deployment" and "gateway" not in each["metadata"]["name"]
    )
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    values = {each["name"]: each.get("value", "") for each in container["env"]}
    parse_defaults(values["FOREBAY_ENDPOINT_DEFAULTS"].replace("$$", "$"))


def test_helm_lint_finds_no_problem(helm: Helm) -> None:
    linted = helm("lint", "--strict", str(CHART), f"--set={REPOSITORY}")
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_the_gateways_values_become_its_variables(helm: Helm) -> None:
    values = "--set=gateway.settings.kept_bytes=134217728"
    rendered = helm("template", "forebay", str(CHART), f"--set={REPOSITORY}", values)
    assert '- {"name":"FOREBAY_GATEWAY_KEPT_BYTES","value":"134217728"}\n' in rendered.stdout
    without = helm("template", "forebay", str(CHART), f"--set={REPOSITORY}", "--set=gateway.enabled=false").stdout
    assert "forebay_gateway" not in without
    assert "--gateway-service" not in without
