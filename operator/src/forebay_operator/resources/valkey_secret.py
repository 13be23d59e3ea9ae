"""The Secret with the password of the chart's own Valkey.

`controller/valkey_password.py` creates it.
"""

import base64
import secrets

from forebay_kube import names
from forebay_operator.spec import Manifest


def build_valkey_secret(namespace: str, service: str) -> Manifest:
    """A Secret with a fresh random password of 256 bits, by the name of Valkey's Service. It is created once.

    Its entries: `password`; `url`, which the gateways get; `valkey.conf`, which Valkey reads at its start.
    """
    password = secrets.token_hex(32)
    entries = {
        "password": password,
        "url": f"valkey://:{password}@{service}.{namespace}.svc:6379/0",
        "valkey.conf": f"requirepass {password}\n",
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": service, "namespace": namespace, "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY}},
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in entries.items()},
    }
