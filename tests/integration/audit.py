"""What the operator asked the API server for, by the API server's own log."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from tests.kubectl import Kubectl


@dataclass(frozen=True)
class Request:
    """One request of the operator's service account. `resource` has the subresource behind it: pods/status."""

    group: str
    resource: str
    verb: str
    namespace: str
    code: int


def operators_requests(control_plane: Kubectl, installed_in: str = "forebay-system") -> Iterator[Request]:
    """All that were answered so far, of the operators of this session that run in that namespace, or in any for "";
    watches when they have ended."""
    with (control_plane.kubeconfig.parent / "audit.log").open() as lines:
        for line in lines:
            event = json.loads(line)
            about = event.get("objectRef")
            _, _, namespace, account = f"{event['user']['username']}:::".split(":")[:4]
            if about and account == "forebay" and installed_in in ("", namespace):
                resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
                where, code = about.get("namespace", ""), event["responseStatus"]["code"]
                yield Request(about.get("apiGroup", ""), resource, event["verb"], where, code)
