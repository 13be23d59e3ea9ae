"""The table of all keys of the chart's values: a value for each key, and its effect on the rendered objects."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.integration.chart_row import (
    ABSENT,
    COMPONENTS,
    DIGEST,
    GATEWAY,
    OPERATOR,
    VALKEY,
    Row,
    arguments,
    container,
    nest,
    pod,
    row,
    variable,
)


def component_rows() -> Iterator[Row]:
    """The keys that operator, gateway and Valkey share."""
    spread = {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    taint = {"key": "example.com/own", "operator": "Exists"}
    nodes: dict[str, Any] = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    volume, mount = {"name": "more", "emptyDir": {}}, {"name": "more", "mountPath": "/more"}
    for prefix, workload in COMPONENTS.items():
        metadata = {"template": {"metadata": {"labels": {"team": "a"}}}}
        yield row(f"{prefix}podLabels", {"team": "a"}, {workload: {"spec": metadata}})
        metadata = {"template": {"metadata": {"annotations": {"example.com/a": "b"}}}}
        yield row(f"{prefix}podAnnotations", {"example.com/a": "b"}, {workload: {"spec": metadata}})
        ids = {"runAsUser": 1234}
        yield row(f"{prefix}podSecurityContext", ids, {workload: pod(securityContext={"runAsNonRoot": True, **ids})})
        ids = {"runAsUser": 1235}
        context = {"readOnlyRootFilesystem": True, **ids}
        yield row(f"{prefix}securityContext", ids, {workload: container(securityContext=context)})
        yield row(f"{prefix}extraEnv", [{"name": "A", "value": "1"}], {workload: variable("A", "1")})
        source = {"secretRef": {"name": "own"}}
        yield row(f"{prefix}extraEnvFrom", [source], {workload: container(envFrom=[source])})
        yield row(f"{prefix}extraArgs", ["--more=1"], {workload: arguments("--more=1")})
        yield row(f"{prefix}extraVolumes", [volume], {workload: pod(volumes=[volume])})
        yield row(
            f"{prefix}extraVolumeMounts",
            [mount],
            {workload: container(volumeMounts=[mount])},
            **(nest(f"{prefix}extraVolumes", [volume])),
        )
        amount = {"requests": {"cpu": "60m"}}
        yield row(f"{prefix}resources", amount, {workload: container(resources=amount)})
        labels = {"pool": prefix.strip(".") or "operator"}
        yield row(f"{prefix}nodeSelector", labels, {workload: pod(nodeSelector=labels)})
        yield row(f"{prefix}tolerations", [taint], {workload: pod(tolerations=[taint])})
        yield row(f"{prefix}affinity", nodes, {workload: pod(affinity=nodes)})
        yield row(f"{prefix}priorityClassName", "high", {workload: pod(priorityClassName="high")})
        counted = {"labelSelector": {"matchLabels": {"app.kubernetes.io/instance": "forebay"}}}
        constraints = [{**spread, **counted}]
        yield row(
            f"{prefix}topologySpreadConstraints", [spread], {workload: pod(topologySpreadConstraints=constraints)}
        )


def account_rows() -> Iterator[Row]:
    """The service accounts of operator and gateway."""
    for prefix, name in (("", "forebay"), ("gateway.", "forebay-gateway")):
        subject = {"subjects": [{"kind": "ServiceAccount", "name": "own", "namespace": "system"}]}
        own = nest(f"{prefix}serviceAccount.name", "own")
        named = {f"ServiceAccount/{name}": None, f"ClusterRoleBinding/{name}": subject}
        workload = {f"Deployment/{name}": pod(serviceAccountName="own")}
        yield row(f"{prefix}serviceAccount.create", False, {**named, **workload}, **own, alone=True)
        created: dict[str, Any] = {f"ServiceAccount/own{prefix.strip('.')}": {}}
        yield row(f"{prefix}serviceAccount.name", f"own{prefix.strip('.')}", created)
        annotations = {"example.com/role": "r"}
        yield row(
            f"{prefix}serviceAccount.annotations",
            annotations,
            {f"ServiceAccount/{name}": {"metadata": {"annotations": annotations}}},
            alone=True,  # with all keys together, the account has another name
        )


def image_rows() -> Iterator[Row]:
    """Images: registries, tags and digests."""
    mirrored = {
        OPERATOR: container(image="mirror.example/team/operator:0.1.0"),
        GATEWAY: container(image="mirror.example/team/operator:0.1.0"),
        VALKEY: container(image="mirror.example/valkey/valkey:8.1"),
    }
    overlay = "--overlay-image=mirror.example/team/forebay-server:0.1.0"
    servers = "--gpu-image=mirror.example/vllm/gpu:1", "--cpu-image=mirror.example/cpu@" + DIGEST, overlay
    both = {"gpuImage": "vllm/gpu:1", "cpuImage": f"localhost:5000/cpu@{DIGEST}"}
    yield row("global.imageRegistry", "mirror.example", mirrored, alone=True)
    yield row("global.imageRegistry", "mirror.example/", {OPERATOR: arguments(*servers)}, server=both, alone=True)
    yield row("image.registry", "ghcr.io", {OPERATOR: container(image="ghcr.io/team/operator:0.1.0")}, alone=True)
    yield row("image.repository", "other/operator", {GATEWAY: container(image="other/operator:0.1.0")}, alone=True)
    yield row("image.tag", "2", {OPERATOR: container(image="team/operator:2")}, alone=True)
    yield row("image.digest", DIGEST, {OPERATOR: container(image=f"team/operator@{DIGEST}")}, alone=True)
    always = container(imagePullPolicy="Always")
    yield row("image.pullPolicy", "Always", {OPERATOR: always, GATEWAY: always, VALKEY: always})
    yield row("valkey.image.registry", "", {VALKEY: container(image="valkey/valkey:8.1")}, alone=True)
    yield row("valkey.image.repository", "a/b", {VALKEY: container(image="docker.io/a/b:8.1")}, alone=True)
    yield row("valkey.image.tag", "9", {VALKEY: container(image="docker.io/valkey/valkey:9")}, alone=True)
    digested = container(image=f"docker.io/valkey/valkey@{DIGEST}")
    yield row("valkey.image.digest", DIGEST, {VALKEY: digested}, alone=True)
    yield row("server.gpuImage", "r/gpu:1", {OPERATOR: arguments("--gpu-image=r/gpu:1")}, alone=True)
    yield row("server.cpuImage", "r/cpu:1", {OPERATOR: arguments("--cpu-image=r/cpu:1")}, alone=True)
    for key, value, reference in (
        ("registry", "r.example", "r.example/team/forebay-server:0.1.0"),
        ("repository", "a/b", "a/b:0.1.0"),
        ("tag", "2", "team/forebay-server:2"),
        ("digest", DIGEST, f"team/forebay-server@{DIGEST}"),
    ):
        expected = {OPERATOR: arguments(f"--overlay-image={reference}")}
        yield row(f"server.image.{key}", value, expected, alone=True)
    beside = {OPERATOR: arguments("--overlay-image=ghcr.io/team/forebay-server:0.1.0")}
    yield row("image.registry", "ghcr.io", beside, alone=True)
    yield row("server.image.pullPolicy", "Always", {OPERATOR: arguments("--overlay-pull-policy=Always")})
    secrets = pod(imagePullSecrets=[{"name": "a"}, {"name": "b"}])
    everywhere = {OPERATOR: secrets, GATEWAY: secrets, VALKEY: secrets}
    yield row("imagePullSecrets", ["a", {"name": "b"}, "a"], everywhere)
    yield row("global.imagePullSecrets", [{"name": "a"}, "b"], everywhere)


def service_rows() -> Iterator[Row]:
    """How clients reach the gateway."""
    service, ingress, route = "Service/forebay-gateway", "Ingress/forebay-gateway", "HTTPRoute/forebay-gateway"
    hosts = {"ingress": {"enabled": True, "hosts": [{"host": "llm.example.com"}]}}
    paths = {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "forebay-gateway"}}}]}
    rules = {"spec": {"rules": [{"host": "llm.example.com", "http": paths}]}}
    yield row(
        "gateway.ingress.enabled", True, {ingress: rules}, gateway={"ingress": {"hosts": [{"host": "llm.example.com"}]}}
    )
    yield row(
        "gateway.ingress.hosts", [{"host": "llm.example.com"}], {ingress: rules}, gateway={"ingress": {"enabled": True}}
    )
    yield row("gateway.ingress.className", "nginx", {ingress: {"spec": {"ingressClassName": "nginx"}}}, gateway=hosts)
    noted, labelled = {"example.com/a": "b"}, {"exposed": "true"}
    yield row("gateway.ingress.annotations", noted, {ingress: {"metadata": {"annotations": noted}}}, gateway=hosts)
    yield row("gateway.ingress.labels", labelled, {ingress: {"metadata": {"labels": labelled}}}, gateway=hosts)
    tls = [{"secretName": "llm-tls", "hosts": ["llm.example.com"]}]
    yield row("gateway.ingress.tls", tls, {ingress: {"spec": {"tls": tls}}}, gateway=hosts)
    parents = {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}}
    unlimited = {"timeouts": {"request": "0s"}, "matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}
    plain = {"spec": {"rules": [{**unlimited, "backendRefs": [{"name": "forebay-gateway", "port": 80}]}]}}
    yield row(
        "gateway.httpRoute.enabled",
        True,
        {route: plain},
        gateway={"httpRoute": {"parentRefs": [{"name": "public"}]}},
        alone=True,
    )
    yield row(
        "gateway.httpRoute.parentRefs",
        [{"name": "public"}],
        {route: {"spec": {"parentRefs": [{"name": "public"}]}}},
        gateway={"httpRoute": {"enabled": True}},
    )
    yield row(
        "gateway.httpRoute.hostnames", ["a.example"], {route: {"spec": {"hostnames": ["a.example"]}}}, gateway=parents
    )
    yield row("gateway.httpRoute.annotations", noted, {route: {"metadata": {"annotations": noted}}}, gateway=parents)
    yield row("gateway.httpRoute.labels", labelled, {route: {"metadata": {"labels": labelled}}}, gateway=parents)
    matches = {"matches": [{"path": {"type": "PathPrefix", "value": "/v2"}}], "timeouts": {"request": "1h"}}
    yield row("gateway.httpRoute.rules", [matches], {route: {"spec": {"rules": [matches]}}}, gateway=parents)
    balancer = {"service": {"type": "LoadBalancer"}}
    yield row("gateway.service.type", "LoadBalancer", {service: {"spec": {"type": "LoadBalancer"}}})
    yield row("gateway.service.port", 8080, {service: {"spec": {"ports": [{"port": 8080, "targetPort": "http"}]}}})
    yield row(
        "gateway.service.nodePort", 30080, {service: {"spec": {"ports": [{"nodePort": 30080}]}}}, gateway=balancer
    )
    yield row("gateway.service.annotations", noted, {service: {"metadata": {"annotations": noted}}})
    yield row(
        "gateway.service.loadBalancerClass",
        "own/nlb",
        {service: {"spec": {"loadBalancerClass": "own/nlb"}}},
        gateway=balancer,
    )
    ranges = ["203.0.113.0/24"]
    yield row(
        "gateway.service.loadBalancerSourceRanges",
        ranges,
        {service: {"spec": {"loadBalancerSourceRanges": ranges}}},
        gateway=balancer,
    )
    yield row(
        "gateway.service.externalTrafficPolicy",
        "Local",
        {service: {"spec": {"externalTrafficPolicy": "Local"}}},
        gateway=balancer,
    )
    yield row(
        "gateway.service.ipFamilyPolicy", "PreferDualStack", {service: {"spec": {"ipFamilyPolicy": "PreferDualStack"}}}
    )
    yield row("gateway.service.ipFamilies", ["IPv4"], {service: {"spec": {"ipFamilies": ["IPv4"]}}})


def gateway_rows() -> Iterator[Row]:
    """The gateway's own keys."""
    scaler, scaling = "HorizontalPodAutoscaler/forebay-gateway", {"autoscaling": {"enabled": True}}

    def metric(name: str, percent: int) -> dict[str, Any]:
        target = {"type": "Utilization", "averageUtilization": percent}
        return {"spec": {"metrics": [{"type": "Resource", "resource": {"name": name, "target": target}}]}}

    scaled = {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "forebay-gateway"}}}
    unset = {"spec": {"replicas": ABSENT}}
    yield row("gateway.autoscaling.enabled", True, {scaler: scaled, GATEWAY: unset})
    yield row("gateway.autoscaling.minReplicas", 3, {scaler: {"spec": {"minReplicas": 3}}}, gateway=scaling)
    yield row("gateway.autoscaling.maxReplicas", 5, {scaler: {"spec": {"maxReplicas": 5}}}, gateway=scaling)
    yield row("gateway.autoscaling.targetCPUUtilizationPercentage", 60, {scaler: metric("cpu", 60)}, gateway=scaling)
    yield row(
        "gateway.autoscaling.targetMemoryUtilizationPercentage", 70, {scaler: metric("memory", 70)}, gateway=scaling
    )
    own = {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "5"}}}
    yield row("gateway.autoscaling.metrics", [own], {scaler: {"spec": {"metrics": [own]}}}, gateway=scaling)
    slow = {"scaleUp": {"stabilizationWindowSeconds": 60}}
    yield row("gateway.autoscaling.behavior", slow, {scaler: {"spec": {"behavior": slow}}}, gateway=scaling)
    yield row("gateway.enabled", False, {GATEWAY: None, "Service/forebay-gateway": None, VALKEY: None}, alone=True)
    yield row("gateway.replicas", 5, {GATEWAY: {"spec": {"replicas": 5}}}, alone=True)
    yield row("gateway.replicas", None, {GATEWAY: unset, "PodDisruptionBudget/forebay-gateway": {}})
    home = arguments("--home-namespace=llm")
    yield row("gateway.homeNamespace", "llm", {OPERATOR: home, GATEWAY: home})
    urls = arguments("--gateway-urls=http://forebay-gateway.system.svc,https://models.example")
    yield row("gateway.urls", ["https://models.example"], {OPERATOR: urls}, alone=True)
    yield row("gateway.trustedProxies", ["10.0.0.0/8"], {GATEWAY: arguments("--trusted-proxies=10.0.0.0/8")})
    yield row("gateway.settings", {"hold_seconds": 900}, {GATEWAY: variable("FOREBAY_GATEWAY_HOLD_SECONDS", "900")})
    bucket = {"files": {"s3": {"bucket": "files"}}}
    yield row("gateway.files.s3.bucket", "files", {GATEWAY: arguments("--files-bucket=files")})
    for key, value, flag in (
        ("endpoint", "https://s3.example", "--files-endpoint=https://s3.example"),
        ("region", "eu-1", "--files-region=eu-1"),
        ("prefix", "a/b", "--files-prefix=a/b"),
        ("pathStyle", False, "--files-style=virtual"),
    ):
        yield row(f"gateway.files.s3.{key}", value, {GATEWAY: arguments(flag)}, gateway=bucket)
    key_reference = {"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "keys"}}}
    yield row("gateway.files.s3.existingSecret", "keys", {GATEWAY: container(env=[key_reference])}, gateway=bucket)


def server_rows() -> Iterator[Row]:
    """Defaults of endpoints. Their content is JSON, which `defaults` compares."""
    yield row("server.overlay", "ImageVolume", {OPERATOR: arguments("--overlay=ImageVolume")})
    yield row("server.nvidiaRuntimeClassName", "nvidia", {OPERATOR: arguments("--nvidia-runtime-class=nvidia")})
    yield row("server.pullPolicy", "Always", {OPERATOR: arguments("--pull-policy=Always")})
    secret = {"imagePullSecrets": [{"name": "registry"}]}
    yield row("server.imagePullSecrets", ["registry"], {OPERATOR: defaults(secret)})
    literal = [{"name": "A", "value": "$(NAMESPACE)"}]
    yield row("server.env", literal, {OPERATOR: defaults({"env": literal})})
    source = [{"secretRef": {"name": "hugging-face", "optional": True}}]
    yield row("server.envFrom", source, {OPERATOR: defaults({"envFrom": source})})
    for kind in ("gpu", "cpu"):
        amount = {"limits": {"memory": "9Gi"}}
        yield row(f"server.resources.{kind}", amount, {OPERATOR: defaults({"resources": {kind: amount}})})
    size = {"cache": {"size": "100Gi"}}
    yield row("server.cache.size", "100Gi", {OPERATOR: defaults(size)})
    claim = {"cache": {"claimName": "models"}}
    yield row("server.cache.claimName", "models", {OPERATOR: defaults(claim)}, alone=True)
    for key, value in (("storageClassName", "fast"), ("accessModes", ["ReadWriteMany"]), ("deletionPolicy", "Delete")):
        yield row(f"server.cache.{key}", value, {OPERATOR: defaults({"cache": {key: value}})}, server=size)
    for key in ("runAsUser", "runAsGroup", "fsGroup"):
        yield row(f"server.podSecurityContext.{key}", 3000, {OPERATOR: {"ids": {key: 3000}}})
        yield row(f"server.podSecurityContext.{key}", None, {OPERATOR: {"ids": {key: ABSENT}}}, alone=True)


def defaults(expected: Mapping[str, Any]) -> dict[str, Any]:
    """The expected content of --endpoint-defaults."""
    return {"defaults": expected}


def endpoint_rows() -> Iterator[Row]:
    """Upgrades and labels of endpoints."""
    yield row("upgrades.mode", "OnChange", {OPERATOR: arguments("--upgrade-mode=OnChange")})
    yield row("upgrades.maxConcurrent", 3, {OPERATOR: arguments("--upgrade-max-concurrent=3")})
    window = "Sat,Sun 02:00-05:00 Europe/Berlin"
    yield row("upgrades.window", window, {OPERATOR: arguments(f"--upgrade-window={window}")})
    yield row("inheritLabels", ["team", "example.com/*"], {OPERATOR: arguments("--inherit-labels=team,example.com/*")})
    yield row("inheritAnnotations", ["note"], {OPERATOR: arguments("--inherit-annotations=note")})


def other_rows() -> Iterator[Row]:
    """Keys for all components, and of the objects around them."""
    for name, labels in (("nameOverride", "forebay-llm"), ("fullnameOverride", "llm")):
        yield row(name, "llm", {f"Deployment/{labels}": {}, f"Service/{labels}-gateway": {}}, alone=True)
    metadata = {"metadata": {"labels": {"team": "a"}}}
    labelled = {**metadata, "spec": {"template": metadata}}
    yield row("commonLabels", {"team": "a"}, {OPERATOR: labelled, GATEWAY: labelled, VALKEY: labelled, "*": metadata})
    metadata = {"metadata": {"annotations": {"example.com/a": "b"}}}
    noted = {**metadata, "spec": {"template": metadata}}
    yield row(
        "commonAnnotations", {"example.com/a": "b"}, {OPERATOR: noted, GATEWAY: noted, VALKEY: noted, "*": metadata}
    )
    yield row("replicas", 3, {OPERATOR: {"spec": {"replicas": 3}}})
    level = arguments("--log-level=DEBUG")
    yield row("logLevel", "DEBUG", {OPERATOR: level, GATEWAY: level})
    file = {"name": "forebay-ca", "configMap": {"name": "company-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    trusted = pod(
        volumes=[file],
        containers=[
            {
                "volumeMounts": [{"name": "forebay-ca", "mountPath": "/etc/forebay/ca", "readOnly": True}],
                "env": [{"name": "SSL_CERT_FILE", "value": "/etc/forebay/ca/ca.crt"}],
            }
        ],
    )
    bundle = {"caBundle": {"configMap": "company-ca", "key": "ca.crt"}}
    yield row(
        "caBundle.configMap", "company-ca", {OPERATOR: {**trusted, "defaults": bundle}, GATEWAY: trusted}, alone=True
    )
    keyed = pod(volumes=[{"name": "forebay-ca", "configMap": {"items": [{"key": "own.pem", "path": "ca.crt"}]}}])
    yield row("caBundle.key", "own.pem", {OPERATOR: keyed, GATEWAY: keyed}, caBundle={"configMap": "company-ca"})
    url = "http://proxy.example:3128"
    for key, name in (("httpProxy", "HTTP_PROXY"), ("httpsProxy", "HTTPS_PROXY")):
        value, lower = variable(name, url), variable(name.lower(), url)
        everywhere = {OPERATOR: {**value, "defaults": {"env": [{"name": name, "value": url}]}}, GATEWAY: lower}
        yield row(f"proxy.{key}", url, everywhere)
    direct = "localhost,127.0.0.1,::1,169.254.0.0/16,.svc,.cluster.local,.corp.example"
    yield row("proxy.noProxy", ".corp.example", {GATEWAY: variable("NO_PROXY", direct)}, proxy={"httpProxy": url})
    yield row("valkey.existingSecret", "own", {VALKEY: None, GATEWAY: arguments("--jobs=valkey")}, alone=True)
    yield row("valkey.create", False, {VALKEY: None, GATEWAY: arguments("--jobs=off")}, alone=True)
    yield row("valkey.maxMemory", "300mb", {VALKEY: arguments("--maxmemory", "300mb")})
    claim = {"spec": {"resources": {"requests": {"storage": "5Gi"}}}}
    yield row("valkey.storage", "5Gi", {VALKEY: {"spec": {"volumeClaimTemplates": [claim]}}})
    classed = {"spec": {"storageClassName": "fast"}}
    yield row("valkey.storageClassName", "fast", {VALKEY: {"spec": {"volumeClaimTemplates": [classed]}}})
    watched = arguments("--watch-namespaces=a,b")
    yield row(
        "watchNamespaces", ["a", "b"], {OPERATOR: watched, GATEWAY: watched, "ClusterRole/forebay": None}, alone=True
    )
    yield row("crds.install", True, {"CustomResourceDefinition/inferenceendpoints.forebay.dev": {}})
    share = arguments("--namespace-share=1")
    yield row("namespaceShare", 1, {OPERATOR: share, GATEWAY: share})
    closed = {f"NetworkPolicy/{name}": None for name in ("forebay", "forebay-gateway", "forebay-valkey")}
    yield row("networkPolicy.create", False, closed, alone=True)
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    opened = {"spec": {"ingress": [{"from": [peer]}]}}
    yield row("networkPolicy.from", [peer], {"NetworkPolicy/forebay": opened, "NetworkPolicy/forebay-gateway": opened})
    yield row("networkPolicy.endpoints", False, {OPERATOR: arguments("--network-policies=false")})
    yield row("networkPolicy.clusterCIDRs", ["10.0.0.0/8"], {OPERATOR: arguments("--cluster-cidrs=10.0.0.0/8")})
    yield row("networkPolicy.allowedCIDRs", ["10.1.0.0/16"], {OPERATOR: arguments("--allowed-cidrs=10.1.0.0/16")})
    yield row("admissionPolicy.create", False, {"ValidatingAdmissionPolicy/forebay-operator": None}, alone=True)
    restricted = {"rules": [{"resources": ["endpointslices/restricted"], "verbs": ["create"]}]}
    yield row("openshift.enabled", True, {"ClusterRole/forebay": restricted})
    plain = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}}
    text = 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ include "forebay.name" . }}-text\n'
    yield row("extraObjects", [plain, text], {"ConfigMap/forebay-more": {}, "ConfigMap/forebay-text": {}})


ROWS = [
    *component_rows(),
    *account_rows(),
    *image_rows(),
    *service_rows(),
    *gateway_rows(),
    *server_rows(),
    *endpoint_rows(),
    *other_rows(),
]
