"""Patterns that distinguish the texts of the scheduler, the kubelet and the API server. The other checks use them.

The texts are those of Kubernetes 1.33 to 1.37 and containerd 1.7 to 2.4. tests/unit/operator/data has captured texts of
1.37 and 2.4. If a newer version words a text differently, only the catch-all at the end of the list matches. The
message still quotes the new text.
"""

import re
from collections.abc import Sequence

from forebay_operator.status.diagnosis import reasons
from forebay_operator.status.diagnosis.reasons import Diagnosis, Reason

Wordings = Sequence[tuple[str, Reason]]
"""Patterns with their reasons. The first pattern that matches decides."""

SCHEDULER: Wordings = (
    (r'persistentvolumeclaim "[^"]+" (not found|is being deleted)', reasons.PVC_MISSING),
    (
        r"unbound immediate PersistentVolumeClaims|find available persistent volumes to bind"
        r"|bound to non-existent persistentvolume|binding volumes|provisioning failed for PVC",
        reasons.PVC_UNBOUND,
    ),
    (r"volume node affinity conflict|match PersistentVolume's node affinity", reasons.VOLUME_ELSEWHERE),
    (r"", reasons.UNSCHEDULABLE),
)

IMAGES: Wordings = (
    (r"ErrImageNeverPull", reasons.IMAGE_NOT_FOUND),
    (
        r"(?i)pull access denied|insufficient_scope|authorization failed|failed to authorize|no basic auth credentials"
        r"|(?<![\w/:.-])40[13]\b|unauthorized|forbidden|denied:",
        reasons.IMAGE_PULL_DENIED,
    ),
    (r"(?i)\bnot found\b(?!.*no such host)|manifest unknown|name unknown|(?<![\w/:.-])404\b", reasons.IMAGE_NOT_FOUND),
    (
        r"(?i)no such host|dial tcp|i/o timeout|connection refused|TLS handshake|RegistryUnavailable|x509:"
        r"|toomanyrequests|(?<![\w/:.-])(429|50[0234])\b|request canceled|connection reset|: EOF",
        reasons.REGISTRY_UNREACHABLE,
    ),
    (r"", reasons.IMAGE_PULL_FAILED),
)

CONFIGURATION: Wordings = (
    (r'(?i)secrets? "[^"]+" not found', reasons.SECRET_MISSING),
    (r'(?i)configmaps? "[^"]+" not found', reasons.CONFIG_MAP_MISSING),
    (r"(?i)couldn't find key \S+ in (Secret|ConfigMap)", reasons.ENTRY_MISSING),
    (r"", reasons.REFERENCE_MISSING),
)

VOLUMES: Wordings = (
    *CONFIGURATION[:2],
    (r"references non-existent (secret|config) key", reasons.ENTRY_MISSING),
    (r"Multi-Attach error", reasons.VOLUME_IN_USE),
    (r"", reasons.VOLUME_FAILED),
)

REFUSALS: Wordings = (
    (r"failed calling webhook", reasons.WEBHOOK_FAILED),
    (r"exceeded quota|failed quota", reasons.QUOTA_EXCEEDED),
    (
        r"violates PodSecurity|admission webhook|ValidatingAdmissionPolicy|denied the request|(maximum|minimum) \S+ "
        r"usage per|no PriorityClass with name|RuntimeClass",
        reasons.ADMISSION_REFUSED,
    ),
    (
        r"(?i)service ?account \S*\"?[^\"]*\"? ?not found|error looking up service account",
        reasons.SERVICE_ACCOUNT_MISSING,
    ),
    (r"", reasons.PODS_REFUSED),
)
"""Patterns for pods that the API server does not let the ReplicaSet create."""

FORBIDDEN_WORDINGS: Wordings = (*REFUSALS[:-1], (r"", reasons.FORBIDDEN))
"""Patterns for objects that the API server does not let the operator create."""


MAX_SEARCHED_LENGTH = 4096
"""Characters of a text that are searched. A search may take quadratic time, and users can write parts of the text."""

_CONTAINER_ID = re.compile(r"(?<![\w:])[0-9a-f]{64}\b")
"""The ID of a container or a sandbox. (The digest of an image follows a colon.)"""


def quote(text: str, limit: int = 1000) -> str:
    """Quote another program's text: cut to `limit` characters, and without IDs that change at each attempt, because the
    status would change with them."""
    return _CONTAINER_ID.sub("…", text)[:limit]


def recognize(wordings: Wordings, text: str, limit: int = 1000) -> Diagnosis:
    """Diagnose by the first pattern that matches the text. The message is the text, cut to `limit` characters."""
    searched = text[:MAX_SEARCHED_LENGTH]
    reason = next(reason for pattern, reason in wordings if re.search(pattern, searched, re.DOTALL))
    return reason.diagnose(quote(text, limit))
