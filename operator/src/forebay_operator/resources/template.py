"""Decides whether a Deployment's pod template is outdated, and replaces or keeps it. Pure; the child writer calls it.

An annotation of the Deployment records the endpoint's spec for which the template was built. An operator of another
version, or with other settings, compares this record with the current spec. So it sees whether the user or only the
operator has changed the template.
"""

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from forebay_operator import labels
from forebay_operator.resources.meta import digest, with_applied_digest
from forebay_operator.resources.own_spec import digest_own_spec
from forebay_operator.spec import Endpoint, Manifest


@dataclass(frozen=True)
class TemplateRecord:
    """The content of the annotation forebay.dev/template.

    Attributes:
        revision: the revision of the pod template that the record describes.
        generation: the endpoint's generation when the record was written.
        spec: the digest of the part of the endpoint's spec that shapes the pods.
        approval: the digest of the approval that the last upgrade used; "" without one.
        upgrading: whether an upgrade applied the template, and not all of its pods have been ready yet.
    """

    revision: str
    generation: int
    spec: str
    approval: str = ""
    upgrading: bool = False

    def render(self) -> str:
        """The record as JSON."""
        return json.dumps(vars(self))


_TYPES = {"revision": str, "generation": int, "spec": str, "approval": str, "upgrading": bool}
"""The fields of a record, with their types. Fields of later releases are ignored."""


def read_record(deployment: Manifest) -> TemplateRecord | None:
    """Read the record of a Deployment. Returns None without a valid record, as after a release without records."""
    annotations = deployment["metadata"].get("annotations") or {}
    try:
        given = json.loads(annotations.get(labels.TEMPLATE_ANNOTATION, ""))
    except ValueError:
        return None
    if not isinstance(given, dict):
        return None
    values: dict[str, Any] = {name: given.get(name) for name in _TYPES}
    if not all(isinstance(values[name], kind) for name, kind in _TYPES.items()):
        return None
    return TemplateRecord(**values)


def template_revision(deployment: Manifest) -> str:
    """The revision of a Deployment's pod template; "" if somebody removed it."""
    metadata = deployment["spec"]["template"].get("metadata") or {}
    return str((metadata.get("annotations") or {}).get(labels.REVISION_ANNOTATION, ""))


def is_outdated(endpoint: Endpoint, draft: Manifest, live: Manifest) -> bool:
    """Whether the live template differs from the draft's, and the endpoint's own spec is not the reason.

    The generation is compared first: a CRD of another release may add or remove fields of an unchanged spec.
    """
    wanted, present = template_revision(draft), template_revision(live)
    if wanted == present:
        return False
    record = read_record(live)
    if record is None:
        return True
    if record.revision == wanted:  # somebody edited the template
        return False
    is_changed = record.generation != endpoint.generation and record.spec != digest_own_spec(endpoint)
    return record.revision != present or not is_changed


def is_approved(endpoint: Endpoint, live: Manifest) -> bool:
    """Whether the user approved an upgrade since the last one."""
    record = read_record(live)
    return bool(record and endpoint.upgrade_approval and record.approval != _digest_approval(endpoint))


def is_upgrading(live: Manifest) -> bool:
    """Whether an upgrade applied the live template, and not all of its pods have been ready yet."""
    record = read_record(live)
    return record is not None and record.upgrading


def replace_template(
    endpoint: Endpoint, draft: dict[str, Any], live: Manifest | None, *, begins_upgrade: bool, is_complete: bool
) -> Manifest:
    """Complete a draft, so that its template replaces the live one.

    Args:
        live: the Deployment as it is; None before its creation.
        begins_upgrade: whether this begins an upgrade, which takes a slot until all pods are ready.
        is_complete: whether all pods of the live Deployment are current and ready.
    """
    revision, before = template_revision(draft), read_record(live) if live else None
    same_spec = before is not None and (before.revision, before.generation) == (revision, endpoint.generation)
    spec = before.spec if before and same_spec else digest_own_spec(endpoint)
    approval = _digest_approval(endpoint)
    continues = (
        before is not None
        and before.upgrading
        and (before.revision, before.spec, before.approval) == (revision, spec, approval)
        and not is_complete
    )
    record = TemplateRecord(revision, endpoint.generation, spec, approval, begins_upgrade or continues)
    return with_applied_digest(_annotate(draft, {labels.TEMPLATE_ANNOTATION: record.render()}))


def keep_template(
    endpoint: Endpoint, draft: dict[str, Any], live: Manifest, stuck_revisions: Set[str] = frozenset()
) -> Manifest:
    """Return the draft without a template. As a merge patch, it keeps the live template and changes everything else.

    The draft's inherited labels and annotations are omitted. A merge patch cannot remove such a key, and a later apply
    would not remove a key that a merge patch has added.
    """
    present, before = template_revision(live), read_record(live)
    if before is None or before.revision != present:
        before = TemplateRecord(present, endpoint.generation, digest_own_spec(endpoint), _digest_approval(endpoint))
    record = TemplateRecord(present, endpoint.generation, before.spec, before.approval, before.upgrading)
    applied = (live["metadata"].get("annotations") or {}).get(labels.APPLIED_ANNOTATION, "")
    annotations = {
        labels.UNWATCHED_ANNOTATION: draft["metadata"]["annotations"][labels.UNWATCHED_ANNOTATION],
        labels.TEMPLATE_ANNOTATION: record.render(),
        labels.APPLIED_ANNOTATION: applied,
    }
    spec = {name: value for name, value in draft["spec"].items() if name != "template"}
    if stuck_revisions and not stuck_revisions - {present}:
        spec["strategy"] = _limit_unavailable(spec["strategy"])
    own = {**draft["metadata"], "labels": labels.child_labels(endpoint.name), "annotations": annotations}
    return {**draft, "metadata": own, "spec": spec}


def _limit_unavailable(strategy: Mapping[str, Any]) -> Manifest:
    """Return the strategy for a Deployment whose pods all have its current template."""
    rolling = strategy["rollingUpdate"]
    return {**strategy, "rollingUpdate": {**rolling, "maxUnavailable": 0 if rolling["maxSurge"] else 1}}


def _annotate(draft: dict[str, Any], annotations: Mapping[str, str]) -> dict[str, Any]:
    metadata = draft["metadata"]
    return {**draft, "metadata": {**metadata, "annotations": {**metadata["annotations"], **annotations}}}


def _digest_approval(endpoint: Endpoint) -> str:
    return digest({"approval": endpoint.upgrade_approval}) if endpoint.upgrade_approval else ""
