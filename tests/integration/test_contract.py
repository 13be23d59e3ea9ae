"""The effects of the fields of an endpoint, by the operator as a process against a real API server."""

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.endpoints import endpoint, exists, reason_is, start
from tests.integration.every_field import EVERYTHING
from tests.integration.httproutes import GATEWAYS, HTTPROUTES, gateway_crd, httproute_crd
from tests.integration.kubelet import newest_pod
from tests.kubectl import Kubectl, Manifest, condition, install_crd, wait_for

VARIABLES = [
    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1000m"}}},
    {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": 1}}},
    {"name": "HOW_MANY", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "containerName": "server"}}},
    {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": False}}},
    {"name": "EMPTY", "value": ""},
]
"""Variables of every kind, in forms that the API server writes otherwise."""


@pytest.fixture(scope="module", autouse=True)
def without_routes(control_plane: Kubectl) -> None:
    """Remove the Gateway API, which an earlier test may have installed."""
    control_plane.delete("crd", HTTPROUTES)
    control_plane.delete("crd", GATEWAYS)


def route_says(kubectl: Kubectl, reason: str) -> Callable[[], Manifest | None]:
    def ask() -> Manifest | None:
        found = kubectl.get("iep", "one")
        return found if condition(found, "RouteReady").get("reason") == reason else None

    return ask


@pytest.mark.usefixtures("operator")
class TestContract:
    def test_every_pod_option_is_created_once_and_not_rewritten(self, kubectl: Kubectl, operator: Path) -> None:
        kubectl.run("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
        adapters = [{"name": "a", "source": "pvc://adapters/a"}, {"name": "b", "source": "org/adapter"}]
        deployment = start(
            kubectl,
            pod={**EVERYTHING, "priorityClassName": "", "runtimeClassName": ""},
            adapters=adapters,
            model="pvc://m/a",
            env=VARIABLES,
            envFrom=[{"prefix": "A_", "secretRef": {"name": "s"}}, {"configMapRef": {"name": "c", "optional": False}}],
        )
        newest_pod(kubectl)
        template = deployment["spec"]["template"]
        assert template["metadata"]["labels"]["team"] == "a"
        assert template["spec"]["affinity"] == EVERYTHING["affinity"]
        for _ in range(2):  # the second round shows that the first is over
            kubectl.delete("pdb", "one")
            wait_for(exists(kubectl, "pdb", "one"), "a resync creates the budget again", timeout=40)
        assert f"applied Deployment {kubectl.namespace}/one" not in operator.read_text()

    def test_the_pod_follows_each_change_of_the_overlay(self, kubectl: Kubectl) -> None:
        """No field of the previous mode stays, not even in lists that Kubernetes merges."""
        kubectl.run("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
        start(kubectl, overlay="None")
        seen: Manifest = {}
        for mode in ("Copy", "ImageVolume", "None", "ImageVolume", "Copy", "None"):
            kubectl.patch("iep", "one", {"spec": {"overlay": mode}})

            def has_followed(mode: str = mode) -> Manifest | None:
                spec: Manifest = (kubectl.get("deployment", "one") or {})["spec"]["template"]["spec"]
                volumes = [set(each) - {"name"} for each in spec["volumes"] if each["name"] == "forebay-overlay"]
                expected = {"Copy": [{"emptyDir"}], "ImageVolume": [{"image"}], "None": []}[mode]
                return spec if volumes == expected else None

            spec = wait_for(has_followed, f"the template has the overlay {mode}")
            assert len(spec.get("initContainers", [])) == (mode == "Copy")
            server = spec["containers"][0]
            assert ("command" in server, "workingDir" in server) == (mode != "None", mode != "None")
            assert seen.setdefault(mode, spec) == spec, "the same template again"

    def test_the_disruption_budget_allows_one_eviction_at_a_time(self, kubectl: Kubectl) -> None:
        start(kubectl)
        budget = wait_for(exists(kubectl, "pdb", "one"), "the disruption budget exists")
        assert (budget["spec"]["maxUnavailable"], budget["spec"]["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")

    def test_a_suspended_endpoint_runs_no_pods_and_resumes_unchanged(self, kubectl: Kubectl) -> None:
        start(kubectl, replicas=2)
        wait_for(lambda: len(kubectl.list("pods")) == 2, "two pods exist")
        kubectl.patch("iep", "one", {"spec": {"suspend": True}})
        found = wait_for(reason_is(kubectl, "Suspended"), "the status of the endpoint shows it")
        wait_for(lambda: kubectl.list("pods") == [], "no pod runs")
        kubectl.run("wait", "iep/one", "--for=condition=Ready", "--timeout=20s")
        assert found["spec"]["replicas"] == 2
        assert kubectl.get("service", "one")
        kubectl.patch("iep", "one", {"spec": {"suspend": False}})
        wait_for(lambda: len(kubectl.list("pods")) == 2, "two pods exist again")

    def test_a_retained_claim_outlives_the_endpoint_and_is_used_again(self, kubectl: Kubectl) -> None:
        cache = {"size": "1024Mi"}
        start(kubectl, cache=cache)
        before = wait_for(exists(kubectl, "pvc", "one-cache"), "the claim exists")
        assert "ownerReferences" not in before["metadata"]
        kubectl.delete("iep", "one")
        wait_for(
            lambda: kubectl.get("deployment", "one") is None, "the Deployment of the endpoint is deleted", timeout=60
        )
        start(kubectl, cache={**cache, "deletionPolicy": "Delete"})

        def owned() -> bool:
            found = kubectl.get("pvc", "one-cache")
            assert found
            assert found["metadata"]["uid"] == before["metadata"]["uid"]
            return bool(found["metadata"].get("ownerReferences"))

        wait_for(owned, "the claim belongs to the endpoint now")
        kubectl.delete("iep", "one")
        wait_for(lambda: claim_goes(kubectl), "the claim is deleted with the endpoint", timeout=60)

    @pytest.mark.parametrize(("policy", "goes"), [("Delete", True), ("Retain", False)])
    def test_an_unused_claim_is_deleted_unless_its_policy_is_retain(
        self, kubectl: Kubectl, policy: str, goes: bool
    ) -> None:
        start(kubectl, cache={"size": "1Gi", "deletionPolicy": policy})
        wait_for(exists(kubectl, "pvc", "one-cache"), "the claim exists")
        kubectl.patch("iep", "one", {"spec": {"cache": None}})

        def on_the_pods_disk() -> bool:
            volumes = (kubectl.get("deployment", "one") or {})["spec"]["template"]["spec"]["volumes"]
            return {"name": "forebay-cache", "emptyDir": {}} in volumes

        wait_for(on_the_pods_disk, "the cache is on the pod's disk")
        assert claim_goes(kubectl) == goes

    def test_a_claim_of_another_owner_is_not_changed(self, kubectl: Kubectl) -> None:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        metadata = {"name": "one-cache"}
        kubectl.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
        kubectl.apply(endpoint(cache={"size": "2Gi"}))
        found = wait_for(reason_is(kubectl, "NotOwned"), "the status of the endpoint shows it")
        assert "PersistentVolumeClaim one-cache already exists" in condition(found, "Ready")["message"]

    def test_an_endpoint_that_gets_keys_later_gets_its_secret(self, kubectl: Kubectl) -> None:
        start(kubectl, auth={"mode": "None"})
        assert kubectl.get("secret", "one-api-key") is None
        kubectl.patch("iep", "one", {"spec": {"auth": {"mode": "APIKey"}}})
        wait_for(exists(kubectl, "secret", "one-api-key"), "the key exists")

    def test_a_services_type_can_change_and_change_back(self, kubectl: Kubectl, operator: Path) -> None:
        start(kubectl)
        before = wait_for(exists(kubectl, "service", "one"), "the Service exists")["spec"]
        for kind, ports in (("NodePort", True), ("LoadBalancer", True), ("ClusterIP", False)):
            kubectl.patch("iep", "one", {"spec": {"service": {"type": kind}}})

            def changed(kind: str = kind, ports: bool = ports) -> bool:
                found = (kubectl.get("service", "one") or {})["spec"]
                return bool(found["type"] == kind and ("nodePort" in found["ports"][0]) == ports)

            wait_for(changed, f"the Service is a {kind}")
        assert (kubectl.get("service", "one") or {})["spec"] == before
        # one for each change, and one more where the cache is a moment behind: no loop
        assert operator.read_text().count(f"applied Service {kubectl.namespace}/one\n") in range(3, 7)

    @pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer"])
    def test_a_services_port_can_change_and_change_back(self, kubectl: Kubectl, operator: Path, kind: str) -> None:
        start(kubectl, service={"type": kind})
        before = wait_for(exists(kubectl, "service", "one"), "the Service exists")["spec"]
        if kind != "ClusterIP":  # somebody else sets the node port, and owns it then
            port = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}
            others = before["ports"][0]["nodePort"] - 1
            kubectl.patch("service", "one", {"spec": {"ports": [{**port, "nodePort": others}]}})
        for number in (8080, 80):
            kubectl.patch("iep", "one", {"spec": {"service": {"port": number}}})
            spec = wait_for(partial(find_ports, kubectl, number), f"the Service has the port {number}")
            assert ("nodePort" in spec["ports"][0]) == (kind != "ClusterIP")
            assert without_ports(spec) == without_ports(before)
            wait_for(partial(has_url, kubectl, "svc:8080/" if number == 8080 else "svc/"), "the status has its URL")
        assert operator.read_text().count(f"applied Service {kubectl.namespace}/one\n") in range(2, 6), "no write loop"

    def test_a_services_type_and_port_can_change_together_and_back(self, kubectl: Kubectl) -> None:
        start(kubectl)
        before = wait_for(exists(kubectl, "service", "one"), "the Service exists")["spec"]
        for kind, number in (("NodePort", 8080), ("LoadBalancer", 443), ("ClusterIP", 80)):
            kubectl.patch("iep", "one", {"spec": {"service": {"type": kind, "port": number}}})
            spec = wait_for(partial(find_ports, kubectl, number), f"the Service has the port {number}")
            assert spec["type"] == kind
        assert (kubectl.get("service", "one") or {})["spec"] == before

    def test_the_rollout_strategy_is_set_on_the_deployment(self, kubectl: Kubectl) -> None:
        deployment = start(kubectl, rollout={"strategy": "Replace", "startupTimeout": "1h"})
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
        assert deployment["spec"]["progressDeadlineSeconds"] > 3600

    def test_a_route_is_reported_created_accepted_and_removed(self, kubectl: Kubectl) -> None:
        start(kubectl, route={"parentRefs": [{"name": "public"}], "hostnames": ["llm.example.com"]})
        found = wait_for(route_says(kubectl, "RouteUnsupported"), "the status says that the API is missing")
        assert "is not installed here. Install it, or remove spec.route" in condition(found, "RouteReady")["message"]
        assert condition(found, "Ready")["reason"] == "Scheduling"
        crd = httproute_crd()
        install_crd(kubectl, crd, HTTPROUTES, "--server-side")
        wait_for(route_says(kubectl, "RouteWaiting"), "the route waits for its Gateway", timeout=40)
        route = kubectl.get("httproute", "one")
        assert route is not None
        (rule,) = route["spec"]["rules"]
        assert rule["matches"][0]["path"]["value"] == f"/v2/{kubectl.namespace}.one"
        assert rule["timeouts"] == {"request": "0s"}
        play_gateway(kubectl, route)
        found = wait_for(route_says(kubectl, "RouteAccepted"), "the status says that the route is accepted", timeout=70)
        path = f"/v2/{kubectl.namespace}.one/openai/v1"
        own = {"type": "Service", "url": found["status"]["url"]}
        assert found["status"]["addresses"] == [own], "no Gateway can be read"
        install_crd(kubectl, gateway_crd(), GATEWAYS, "--server-side")
        kubectl.apply(gateway("public"))
        public = {"type": "Route", "url": f"https://llm.example.com{path}"}
        wait_for(lambda: addresses(kubectl) == [own, public], "a resync adds the URL of the Gateway", timeout=70)
        kubectl.patch("iep", "one", {"spec": {"service": {"port": 8080}}})

        def follows() -> bool:
            changed = kubectl.get("httproute", "one")
            return bool(changed and changed["spec"]["rules"][0]["backendRefs"][0]["port"] == 8080)

        wait_for(follows, "the route follows the Service's port")
        kubectl.patch("iep", "one", {"spec": {"route": None}})
        wait_for(lambda: kubectl.get("httproute", "one") is None, "the route is deleted")
        wait_for(lambda: condition(kubectl.get("iep", "one"), "RouteReady") == {}, "the status no longer mentions it")
        own = {"type": "Service", "url": own["url"].replace(".svc/", ".svc:8080/")}
        wait_for(lambda: addresses(kubectl) == [own], "the status no longer has its URL")

    def test_the_address_of_a_load_balancer_is_in_the_status(self, kubectl: Kubectl) -> None:
        start(kubectl, service={"type": "LoadBalancer"})
        own = {"type": "Service", "url": f"http://one.{kubectl.namespace}.svc/v2/one/openai/v1"}
        wait_for(lambda: addresses(kubectl) == [own], "the status has the Service")
        balancer = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}}
        kubectl.patch("service", "one", balancer, "--subresource=status")
        outside = {"type": "Service", "url": "http://192.0.2.7/v2/one/openai/v1"}
        wait_for(lambda: addresses(kubectl) == [own, outside], "the status has the address of the cloud")


@pytest.mark.usefixtures("operator")
def test_helm_waits_until_an_endpoint_matches_its_spec(kubectl: Kubectl, tmp_path: Path) -> None:
    """By kstatus, which Helm itself computes here."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: models, version: 0.1.0}")
    wanted = endpoint(replicas=0)
    (tmp_path / "templates/endpoint.yaml").write_text(json.dumps(wanted))

    def upgrade(timeout: str) -> subprocess.CompletedProcess[str]:
        command = ["helm", "upgrade", "--install", "models", str(tmp_path), f"--namespace={kubectl.namespace}"]
        command += ["--wait", f"--timeout={timeout}"]
        env = dict(kubectl.environment())
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env)

    done = upgrade("30s")
    assert done.returncode == 0, done.stderr
    assert reason_is(kubectl, "ScaledToZero")()
    wanted["spec"]["replicas"] = 1
    (tmp_path / "templates/endpoint.yaml").write_text(json.dumps(wanted))
    waiting = upgrade("3s")
    assert waiting.returncode != 0, "its pod has no node"
    assert "InferenceEndpoint/" in waiting.stderr


def find_ports(kubectl: Kubectl, number: int) -> Manifest | None:
    """The Service's spec, once it has this port and no other."""
    spec = dict((kubectl.get("service", "one") or {})["spec"])
    return spec if [each["port"] for each in spec["ports"]] == [number] else None


def without_ports(spec: Manifest) -> Manifest:
    return {**spec, "ports": []}


def has_url(kubectl: Kubectl, part: str) -> bool:
    return part in (kubectl.get("iep", "one") or {})["status"].get("url", "")


def addresses(kubectl: Kubectl) -> list[Manifest]:
    found = kubectl.get("iep", "one") or {}
    return list(found["status"].get("addresses") or ())


def gateway(name: str) -> Manifest:
    """A Gateway with a listener for HTTPS."""
    tls = {"certificateRefs": [{"name": "certificate"}]}
    listener = {"name": "tls", "port": 443, "protocol": "HTTPS", "hostname": "*.example.com", "tls": tls}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name},
        "spec": {"gatewayClassName": "any", "listeners": [listener]},
    }


def claim_goes(kubectl: Kubectl) -> bool:
    """Whether the claim is deleted, or will be when the controller that isn't here lets it go."""
    found = kubectl.get("pvc", "one-cache")
    return found is None or "deletionTimestamp" in found["metadata"]


def play_gateway(kubectl: Kubectl, route: Manifest) -> None:
    """Accept the route, as the controller of its Gateway would."""
    said = {"status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    parent = {
        "parentRef": {"name": "public"},
        "controllerName": "example.com/gateway",
        "conditions": [{"type": kind, **said, "observedGeneration": 1} for kind in ("Accepted", "ResolvedRefs")],
    }
    kubectl.patch("httproute", route["metadata"]["name"], {"status": {"parents": [parent]}}, "--subresource=status")
