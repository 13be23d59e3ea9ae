"""A spec with every field."""

TERM = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}

NEAR = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}, "namespaces": ["other"]}

EVERYTHING = {
    "labels": {"team": "a", "example.com/cost": "x"},
    "annotations": {"scrape": "yes"},
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [TERM]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": TERM}],
        },
        "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [NEAR]},
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": NEAR}]
        },
    },
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    "priorityClassName": "high",
    "runtimeClassName": "nvidia",
    "serviceAccountName": "reader",
    "imagePullSecrets": [{"name": "registry"}],
    "volumes": [
        {"name": "config", "configMap": {"name": "c", "items": [{"key": "k", "path": "p", "mode": 420}]}},
        {"name": "secret", "secret": {"secretName": "s", "defaultMode": 288, "optional": True}},
        {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1024Mi"}},
        {"name": "claim", "persistentVolumeClaim": {"claimName": "c", "readOnly": False}},
        {"name": "fields", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {
            "name": "token",
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"path": "token", "audience": "cloud", "expirationSeconds": 3600}},
                    {"secret": {"name": "s"}},
                ]
            },
        },
        {"name": "driver", "csi": {"driver": "secrets-store.csi.k8s.io", "volumeAttributes": {"a": "b"}}},
        {
            "name": "own",
            "ephemeral": {
                "volumeClaimTemplate": {
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}
                }
            },
        },
    ],
    "volumeMounts": [
        {"name": "config", "mountPath": "/etc/own", "readOnly": False},
        {"name": "claim", "mountPath": "/data", "subPath": "a"},
        {"name": "claim", "mountPath": "/more"},
    ],
}
"""Every field of spec.pod, in forms that the API server writes otherwise."""
