"""Prometheus in a pod, with the scrape configuration of docs/scaling.md, and the values that KEDA would read from it.

Debian builds it without Kubernetes' service discovery. So the targets are found here, once, with all labels that the
configuration could ask for; what is kept of them, and under which labels, is up to the configuration.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import quote, urlencode, urlsplit

from tests.autoscalers import read_example
from tests.e2e.forebay import images
from tests.kubectl import Kubectl, Manifest

NAME, PORT = "prometheus", 9090


def find_targets(pods: list[Manifest]) -> list[Manifest]:
    """A target for each port of each pod, with labels as of the role `pod` in
    https://prometheus.io/docs/prometheus/latest/configuration/configuration/#kubernetes_sd_config."""
    found = []
    for pod in pods:
        about = {"namespace": pod["metadata"]["namespace"], "pod_name": pod["metadata"]["name"]}
        for name, value in pod["metadata"]["labels"].items():
            label = re.sub(r"\W", "_", name)
            about |= {f"pod_label_{label}": value, f"pod_labelpresent_{label}": "true"}
        for container in pod["spec"]["containers"]:
            for port in container.get("ports") or ():
                labels = {**about, "pod_container_port_name": port.get("name", "")}
                meta = {f"__meta_kubernetes_{label}": value for label, value in labels.items()}
                found.append({"targets": [f"{pod['status']['podIP']}:{port['containerPort']}"], "labels": meta})
    return found


def scrape_config(pods: list[Manifest]) -> Manifest:
    """The configuration of the docs, by which these pods are scraped every second."""
    config = {"global": {"scrape_interval": "1s"}, **read_example("scrape_configs")}
    (job,) = config["scrape_configs"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    job["static_configs"] = find_targets(pods)
    return config


def manifests(config: Manifest) -> list[Manifest]:
    """Prometheus with a configuration, as the restricted Pod Security Standard allows it."""
    metadata = {"name": NAME, "labels": {"app": NAME}}
    container = {
        "name": NAME,
        "image": images()[NAME],
        "imagePullPolicy": "Never",
        "args": ["--config.file=/config/prometheus.yml", "--storage.tsdb.path=/data"],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": PORT}, "periodSeconds": 1, "timeoutSeconds": 30},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "config", "mountPath": "/config"}, {"name": "data", "mountPath": "/data"}],
    }
    pod = {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": NAME}}, {"name": "data", "emptyDir": {}}],
    }
    service = {"selector": {"app": NAME}, "ports": [{"port": PORT}]}
    text = {"prometheus.yml": json.dumps(config)}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": text},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod},
    ]


@contextmanager
def prometheus(kubectl: Kubectl) -> Iterator[str]:
    """A Prometheus scrapes the namespace's pods, as they are now, while the context lasts; gives its address."""
    items = manifests(scrape_config(kubectl.list("pods")))
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    try:
        kubectl.run("apply", "-f", "-", stdin=listed)
        kubectl.run("wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=180s")
        yield f"http://{NAME}.{kubectl.namespace}.svc:{PORT}"
    finally:
        kubectl.run("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=listed)


def read_as_keda(kubectl: Kubectl, trigger: Mapping[str, str]) -> float | None:
    """The value that KEDA's scaler for Prometheus reads by a trigger's metadata; None where nothing is found.

    It queries like pkg/scalers/prometheus_scaler.go of KEDA, which accepts one value at most. The query goes through
    the API server, as this machine is not in the cluster's network.
    """
    server = urlsplit(trigger["serverAddress"])
    service, namespace = (server.hostname or "").split(".")[:2]
    asked = {"query": trigger["query"], "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    proxy = f"/api/v1/namespaces/{namespace}/services/{service}:{server.port}/proxy"
    answer = json.loads(kubectl.run("get", "--raw", f"{proxy}/api/v1/query?{urlencode(asked, quote_via=quote)}"))
    found = answer["data"]["result"]
    assert len(found) <= 1, f"KEDA refuses more than one value: {found}"
    return float(found[0]["value"][1]) if found else None
