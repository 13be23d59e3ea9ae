"""The operator, as a process, against a real API server.

It creates the desired objects, repairs them, and reports their state.

No nodes exist here, so tests simulate a kubelet by writing the status of pods and Deployments.
"""

import base64
import json
from collections.abc import Callable

import pytest

from forebay_operator.controller.child_writer import IMAGE_VOLUME_MINOR
from tests.endpoints import CHILDREN, endpoint, exists, reason_is, start, wait_for_no_children
from tests.integration.kubelet import newest_pod, play_kubelet
from tests.kubectl import Kubectl, Manifest, condition, wait_for


def events(kubectl: Kubectl) -> dict[str, Manifest]:
    """The events of the endpoint named one, by reason."""
    found = (each for each in kubectl.list("events") if each["involvedObject"]["kind"] == "InferenceEndpoint")
    return {each["reason"]: each for each in found if each["involvedObject"]["name"] == "one"}


def ready_is(kubectl: Kubectl, status: str) -> Callable[[], bool]:
    return lambda: bool(condition(kubectl.get("iep", "one"), "Ready")["status"] == status)


def mounts_images(kubectl: Kubectl) -> bool:
    """Whether the API server is new enough for volumes from images."""
    minor = json.loads(kubectl.run("get", "--raw", "/version"))["minor"]
    return int(minor.rstrip("+")) >= IMAGE_VOLUME_MINOR


@pytest.mark.usefixtures("operator")
class TestChildren:
    def test_an_endpoint_gets_a_deployment_a_service_and_a_key(self, kubectl: Kubectl) -> None:
        deployment = start(kubectl)
        service = wait_for(exists(kubectl, "service", "one"), "the Service exists")
        secret = wait_for(exists(kubectl, "secret", "one-api-key"), "the Secret exists")
        pod = deployment["spec"]["template"]["spec"]
        assert pod["containers"][0]["image"] == "gpu-server:1"
        assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
        assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
        assert len(base64.b64decode(secret["data"]["api-key"])) > 32
        for child in (deployment, service, secret):
            assert child["metadata"]["ownerReferences"][0]["name"] == "one"

    def test_pods_pass_the_restricted_pod_security_standard(self, kubectl: Kubectl) -> None:
        kubectl.run("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
        start(kubectl, model="oci://registry/model:1" if mounts_images(kubectl) else "org/model")
        assert newest_pod(kubectl)

    def test_a_change_of_the_endpoint_reaches_its_children(self, kubectl: Kubectl) -> None:
        start(kubectl)
        change = {"replicas": 3, "env": [{"name": "MAX_MODEL_LEN", "value": "64"}], "service": {"port": 8080}}
        kubectl.patch("iep", "one", {"spec": change})

        def changed() -> bool:
            deployment, service = kubectl.get("deployment", "one"), kubectl.get("service", "one")
            assert deployment
            assert service
            env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
            return (
                deployment["spec"]["replicas"] == 3
                and {"name": "MAX_MODEL_LEN", "value": "64"} in env
                and service["spec"]["ports"][0]["port"] == 8080
                and len(service["spec"]["ports"]) == 1
            )

        wait_for(changed, "the change is carried out")

    def test_fields_removed_from_the_endpoint_are_removed_from_its_children(self, kubectl: Kubectl) -> None:
        deployment = start(kubectl, env=[{"name": "MAX_MODEL_LEN", "value": "64"}])
        assert "MAX_MODEL_LEN" in str(deployment)
        kubectl.patch("iep", "one", {"spec": {"env": None}})
        wait_for(lambda: "MAX_MODEL_LEN" not in str(kubectl.get("deployment", "one")), "the variable is removed")

    def test_kubectl_scale_changes_the_deployment(self, kubectl: Kubectl) -> None:
        start(kubectl)
        kubectl.run("scale", "iep/one", "--replicas=2")
        wait_for(lambda: len(kubectl.list("pods")) == 2, "two pods exist")

    def test_deleting_the_endpoint_removes_every_child(self, kubectl: Kubectl) -> None:
        start(kubectl)
        wait_for(exists(kubectl, "service", "one"), "the Service exists")
        kubectl.delete("iep", "one")
        wait_for_no_children(kubectl, "one")

    def test_a_recreated_endpoint_gets_its_own_children(self, kubectl: Kubectl) -> None:
        first = start(kubectl)
        kubectl.delete("iep", "one")
        second = kubectl.apply(endpoint())

        def replaced() -> bool:
            found = kubectl.get("deployment", "one")
            return bool(found and found["metadata"]["ownerReferences"][0]["uid"] == second["metadata"]["uid"])

        wait_for(replaced, "the new endpoint has a Deployment")
        assert condition(kubectl.get("iep", "one"), "Ready")["status"] != "True"
        assert first["metadata"]["ownerReferences"][0]["uid"] != second["metadata"]["uid"]

    def test_the_network_policy_follows_the_endpoint(self, kubectl: Kubectl) -> None:
        start(kubectl)
        wait_for(exists(kubectl, "networkpolicy", "one"), "the policy exists")
        kubectl.patch("iep", "one", {"spec": {"networkPolicy": {"ports": [9090]}}})

        def ports() -> list[int]:
            found = kubectl.get("networkpolicy", "one") or {"spec": {"ingress": [{}]}}
            return [each["port"] for each in found["spec"]["ingress"][0].get("ports", ())]

        wait_for(lambda: ports() == [8000, 9090], "the port is open")
        kubectl.patch("iep", "one", {"spec": {"networkPolicy": {"create": False}}})
        wait_for(lambda: kubectl.get("networkpolicy", "one") is None, "the policy is deleted")


@pytest.mark.usefixtures("operator")
class TestDrift:
    @pytest.mark.parametrize(("kind", "name"), CHILDREN[:2])
    def test_a_deleted_child_is_restored(self, kubectl: Kubectl, kind: str, name: str) -> None:
        start(kubectl)
        before = wait_for(exists(kubectl, kind, name), f"the {kind} exists")
        kubectl.delete(kind, name)
        after = wait_for(exists(kubectl, kind, name), f"the {kind} is restored")
        assert after["metadata"]["uid"] != before["metadata"]["uid"]

    @pytest.mark.parametrize(
        ("kind", "patch"),
        [
            ("service", {"spec": {"selector": {"forebay.dev/endpoint": "another"}}}),
            ("service", {"spec": {"selector": {"another": "key"}}}),
            ("service", {"spec": {"ports": [{"name": "http", "port": 81, "targetPort": 1}]}}),
            ("service", {"spec": {"ports": [{"name": "http", "port": 80}, {"name": "ops", "port": 8001}]}}),
            ("service", {"spec": {"type": "NodePort"}}),
            ("service", {"metadata": {"labels": {"forebay.dev/endpoint": None}}}),
            ("service", {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}),
            ("deployment", {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}}),
            ("deployment", {"metadata": {"labels": {"forebay.dev/endpoint": "another"}}}),
            ("deployment", {"spec": {"template": {"spec": {"automountServiceAccountToken": None}}}}),
            ("deployment", {"spec": {"replicas": 7}}),
            ("deployment", {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 30}}}}),
        ],
        ids=[
            "selector",
            "added selector",
            "port",
            "added port",
            "type",
            "lost label",
            "lost manager",
            "other manager",
            "other label",
            "token",
            "replicas",
            "grace",
        ],
    )
    def test_an_edited_child_is_repaired(self, kubectl: Kubectl, kind: str, patch: Manifest) -> None:
        start(kubectl)
        before = wait_for(exists(kubectl, kind, "one"), f"the {kind} exists")
        kubectl.patch(kind, "one", patch)

        def is_repaired() -> bool:
            found = kubectl.get(kind, "one")
            assert found
            return bool(found["spec"] == before["spec"] and found["metadata"]["labels"] == before["metadata"]["labels"])

        wait_for(is_repaired, f"the {kind} is repaired")

    def test_fields_added_by_others_stay(self, kubectl: Kubectl) -> None:
        start(kubectl, cache={"size": "1Gi"})
        wait_for(exists(kubectl, "pdb", "one"), "all children exist")
        children = ["deployment/one", "service/one", "secret/one-api-key", "pvc/one-cache", "pdb/one"]
        for child in children:
            kubectl.run("label", child, "team=blue")
            kubectl.run("annotate", child, "note=mine")
        sidecar = {"name": "sidecar", "image": "sidecar:1"}
        added = {"spec": {"template": {"metadata": {"labels": {"mesh": "yes"}}, "spec": {"containers": [sidecar]}}}}
        kubectl.run("patch", "deployment", "one", "--type=strategic", f"--patch={json.dumps(added)}")
        kubectl.run("rollout", "restart", "deployment/one")
        kubectl.patch("iep", "one", {"spec": {"replicas": 2}})

        def scaled() -> Manifest | None:
            found = kubectl.get("deployment", "one")
            return found if found and found["spec"]["replicas"] == 2 else None

        deployment = wait_for(scaled, "the Deployment is scaled")
        assert "kubectl.kubernetes.io/restartedAt" in deployment["spec"]["template"]["metadata"]["annotations"]
        assert deployment["spec"]["template"]["metadata"]["labels"]["mesh"] == "yes"
        assert [each["name"] for each in deployment["spec"]["template"]["spec"]["containers"]] == ["sidecar", "server"]
        for child in children:
            metadata = (kubectl.get(*child.split("/")) or {})["metadata"]
            assert (metadata["labels"]["team"], metadata["annotations"]["note"]) == ("blue", "mine")

    def test_a_key_never_changes_and_is_created_again_after_deletion(self, kubectl: Kubectl) -> None:
        start(kubectl)
        kubectl.patch("secret", "one-api-key", {"stringData": {"api-key": "a key of the user's own"}})
        kubectl.patch("iep", "one", {"spec": {"replicas": 2}})
        wait_for(lambda: len(kubectl.list("pods")) == 2, "two pods exist")
        secret = kubectl.get("secret", "one-api-key")
        assert secret
        assert base64.b64decode(secret["data"]["api-key"]) == b"a key of the user's own"
        kubectl.delete("secret", "one-api-key")
        wait_for(exists(kubectl, "secret", "one-api-key"), "the next resync creates the Secret again", timeout=30)
        wait_for(lambda: "KeyReplaced" in events(kubectl), "an event reports it")

    def test_an_object_of_another_owner_is_not_changed_and_is_named(self, kubectl: Kubectl) -> None:
        foreign = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"}, "spec": {"ports": [{"port": 1}]}}
        before = kubectl.apply(foreign)
        kubectl.apply(endpoint())
        found = wait_for(reason_is(kubectl, "NotOwned"), "the status of the endpoint shows it")
        assert condition(found, "Stalled")["status"] == "True"
        assert "Service one already exists" in condition(found, "Ready")["message"]
        after = kubectl.get("service", "one")
        assert after is not None
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        kubectl.delete("service", "one")
        wait_for(exists(kubectl, "deployment", "one"), "the endpoint recovers automatically", timeout=70)


@pytest.mark.usefixtures("operator")
class TestStatus:
    def test_ready_follows_the_pods(self, kubectl: Kubectl) -> None:
        start(kubectl)
        found = wait_for(reason_is(kubectl, "Scheduling"), "the endpoint waits for a node")
        assert found["status"]["url"] == f"http://one.{kubectl.namespace}.svc/v2/one/openai/v1"
        assert found["status"]["models"] == ["org/model"]
        assert found["status"]["ready"] == "0/1"
        assert (condition(found, "Reconciling")["status"], condition(found, "Stalled")["status"]) == ("True", "False")
        play_kubelet(kubectl, newest_pod(kubectl), {"conditions": [{"type": "Ready", "status": "True"}]})
        found = wait_for(reason_is(kubectl, "Ready"), "the endpoint is ready")
        assert found["status"]["ready"] == "1/1"
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
        assert [condition(found, kind)["status"] for kind in ("Ready", "Reconciling", "Stalled")] == [
            "True",
            "False",
            "False",
        ]
        header, row = (line.split() for line in kubectl.run("get", "iep", "one", "-o", "wide").splitlines())
        assert header == ["NAME", "STATUS", "READY", "GPUS", "AGE", "UPTODATE", "QUEUED", "RUNNING", "MODEL", "URL"]
        assert [*row[:4], *row[5:]] == ["one", "Ready", "1/1", "1", "True", "org/model", found["status"]["url"]]

    def test_repeated_events_of_an_endpoint_increase_one_count(self, kubectl: Kubectl) -> None:
        start(kubectl)
        pod = newest_pod(kubectl)
        for ready in ("True", "False", "True"):
            play_kubelet(kubectl, pod, {"conditions": [{"type": "Ready", "status": ready}]})
            wait_for(ready_is(kubectl, ready), "the status of the endpoint follows")
        wait_for(lambda: events(kubectl).get("Ready", {}).get("count") == 2, "the second time is counted")
        assert len([each for each in kubectl.list("events") if each["reason"] == "Ready"]) == 1
        shown = kubectl.run("describe", "iep", "one")
        assert "(x2 over" in shown
        assert "1 of 1 replicas ready" in shown

    def test_an_unschedulable_pod_shows_the_schedulers_message(self, kubectl: Kubectl) -> None:
        start(kubectl)
        words = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
        scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
        play_kubelet(kubectl, newest_pod(kubectl), {"conditions": [scheduled]})
        found = wait_for(reason_is(kubectl, "NoSuchGPU"), "the status of the endpoint shows it")
        message = condition(found, "Ready")["message"]
        assert "no node has 1 nvidia.com/gpu; the nodes have no GPUs at all" in message
        assert words.rstrip(".") in message
        assert condition(found, "Stalled")["status"] == "False"

    def test_a_pod_with_a_missing_volume_shows_its_event_message(self, kubectl: Kubectl) -> None:
        start(kubectl)
        pod = newest_pod(kubectl)
        found = kubectl.get("pod", pod)
        assert found
        words = 'MountVolume.SetUp failed for volume "certificates" : secret "none" not found'
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{pod}.1"},
            "involvedObject": {
                "kind": "Pod",
                "name": pod,
                "namespace": kubectl.namespace,
                "uid": found["metadata"]["uid"],
            },
            "reason": "FailedMount",
            "message": words,
            "type": "Warning",
            "lastTimestamp": "2026-01-01T00:00:01Z",
        }
        kubectl.run("create", "-f", "-", stdin=json.dumps(event))
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        play_kubelet(kubectl, pod, {"phase": "Pending", "conditions": [scheduled]})
        reported = wait_for(reason_is(kubectl, "SecretMissing"), "the status of the endpoint shows it")
        assert words in condition(reported, "Ready")["message"]
        prepared = {"type": "PodReadyToStartContainers", "status": "True"}
        play_kubelet(kubectl, pod, {"conditions": [scheduled, prepared]})
        wait_for(reason_is(kubectl, "PullingImage"), "the events no longer count")

    def test_a_quota_error_shows_the_message_of_the_api_server(self, kubectl: Kubectl) -> None:
        kubectl.run("create", "quota", "none", "--hard=pods=0")
        start(kubectl)
        found = wait_for(reason_is(kubectl, "QuotaExceeded"), "the status of the endpoint shows it")
        assert "exceeded quota" in condition(found, "Ready")["message"]

    def test_a_misspelled_variable_is_reported_and_does_not_stop_the_endpoint(self, kubectl: Kubectl) -> None:
        start(kubectl, env=[{"name": "MAX_MODEL_LEM", "value": "64"}])
        found = wait_for(reason_is(kubectl, "Scheduling"), "the endpoint recovers")
        warning = condition(found, "EnvRecognized")
        assert warning["status"] == "False"
        assert "did you mean MAX_MODEL_LEN?" in warning["message"]

    def test_a_missing_key_secret_is_named_until_it_exists(self, kubectl: Kubectl) -> None:
        kubectl.apply(endpoint(auth={"secretName": "mine"}))
        found = wait_for(reason_is(kubectl, "SecretMissing"), "the status of the endpoint shows it")
        assert "the Secret mine" in condition(found, "Ready")["message"]
        kubectl.run("create", "secret", "generic", "mine", "--from-literal=a=0123456789abcdef")
        wait_for(reason_is(kubectl, "Scheduling"), "the endpoint recovers automatically", timeout=70)
        assert kubectl.get("secret", "one-api-key") is None

    def test_zero_replicas_are_reported_as_such(self, kubectl: Kubectl) -> None:
        start(kubectl, replicas=0)
        found = wait_for(reason_is(kubectl, "ScaledToZero"), "the status of the endpoint shows it")
        assert condition(found, "Ready")["status"] == "True", (
            "tools that wait for a suspended endpoint would never finish"
        )
        assert condition(found, "ModelLoaded")["status"] == "False"
