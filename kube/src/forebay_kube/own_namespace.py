"""The namespace that this process runs in.

The command lines of operator and gateway read it at their start.
"""

from pathlib import Path

_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""The file that Kubernetes mounts into every pod with a service account."""


def read_own_namespace() -> str:
    """The pod's own namespace, or `default` outside a cluster."""
    return _FILE.read_text().strip() if _FILE.exists() else "default"
