"""The namespace that this process runs in."""

from pathlib import Path

_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where Kubernetes puts it into every pod that has a service account."""


def read_own_namespace() -> str:
    """The pod's own, or `default` outside of a cluster."""
    return _FILE.read_text().strip() if _FILE.exists() else "default"
