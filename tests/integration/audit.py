"""The operator's requests to the API server, by the API server's own log."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kubectl import Kubectl

KEPT_LOGS = "FOREBAY_AUDIT_LOGS"
"""The variable that names the folder in which each control plane leaves its log, for the check of the rights."""


@dataclass(frozen=True)
class AuditedRequest:
    """One request of the operator's service account. `resource` has the subresource behind it: pods/status."""

    group: str
    resource: str
    verb: str
    namespace: str
    code: int


def operators_requests(control_plane: Kubectl, installed_in: str = "forebay-system") -> Iterator[AuditedRequest]:
    """All that were answered so far, of the operators of this session that run in that namespace; watches when they
    have ended."""
    return read_log(control_plane.kubeconfig.parent / "audit.log", installed_in)


def read_log(log: Path, installed_in: str) -> Iterator[AuditedRequest]:
    """The requests in a log, of operators that run in that namespace, or in any for ""."""
    with log.open() as lines:
        for line in lines:
            event = json.loads(line)
            about = event.get("objectRef")
            _, _, namespace, account = f"{event['user']['username']}:::".split(":")[:4]
            if about and account == "forebay" and installed_in in ("", namespace):
                resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
                where, code = about.get("namespace", ""), event["responseStatus"]["code"]
                yield AuditedRequest(about.get("apiGroup", ""), resource, event["verb"], where, code)


def keep_log(folder: Path) -> None:
    """Copy the log of a control plane that ended from its folder to where the check of the rights finds it."""
    if kept := os.environ.get(KEPT_LOGS):
        shutil.copyfile(folder / "audit.log", Path(kept) / f"{uuid.uuid4().hex}.audit")
