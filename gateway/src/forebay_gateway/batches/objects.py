"""File and batch objects of OpenAI's API, in the form in which they are stored and returned.

The file store, the batch processor and the HTTP API of both use them.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

ApiObject = dict[str, Any]
"""A file object or a batch object of OpenAI's API, in its JSON form. Times are seconds since 1970."""

HOUR, DAY = 3600, 86400

FILE_RETENTION = 30 * DAY
"""Seconds for which a file is kept by default."""

MIN_RETENTION, MAX_RETENTION = HOUR, 30 * DAY
"""Seconds for which a client may request to keep a file, as at OpenAI."""

ANCHOR = "created_at"
"""The moment at which these seconds begin. There is no other anchor."""

BATCH_RETENTION = 30 * DAY
"""Seconds for which a batch object is kept."""

WINDOW = "24h"
"""The only completion window, as at OpenAI."""

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")

OPEN_STATUSES = frozenset({"validating", "in_progress", "finalizing"})
"""The states of a batch that is not over."""


def new_file_id() -> str:
    """A unique ID in the form of OpenAI's file IDs."""
    return f"file-{uuid.uuid4().hex}"


def new_file(
    name: str, purpose: str, size: int, now: float, *, retention: int = FILE_RETENTION, file_id: str = ""
) -> ApiObject:
    """Build a file object. `size` is in bytes; `retention` is the seconds until it expires."""
    return {
        "id": file_id or new_file_id(),
        "object": "file",
        "bytes": size,
        "created_at": int(now),
        "expires_at": int(now) + retention,
        "filename": name,
        "purpose": purpose,
        "status": "processed",
    }


def new_batch(
    endpoint: str,
    input_file: str,
    metadata: Mapping[str, str] | None,
    now: float,
    *,
    output_retention: int | None = None,
) -> ApiObject:
    """Build a batch object. `output_retention`: the seconds for which its files are kept, if the request
    sets them."""
    none = ("output_file_id", "error_file_id", "errors", "in_progress_at", "finalizing_at", "completed_at", "failed_at")
    return {
        "id": f"batch_{uuid.uuid4().hex}",
        "object": "batch",
        "endpoint": endpoint,
        "input_file_id": input_file,
        "completion_window": WINDOW,
        "status": "validating",
        "created_at": int(now),
        "expires_at": int(now) + DAY,
        **dict.fromkeys((*none, "expired_at", "cancelling_at", "cancelled_at")),
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": dict(metadata) if metadata else None,
        **({"output_expires_after": {"anchor": ANCHOR, "seconds": output_retention}} if output_retention else {}),
    }


def output_retention(batch: ApiObject) -> int:
    """Seconds for which the output and error files of a batch are kept."""
    return int(batch.get("output_expires_after", {}).get("seconds", FILE_RETENTION))


def move(batch: ApiObject, status: str, now: float) -> None:
    """Set the state of a batch, and the time of this transition."""
    batch["status"] = status
    if f"{status}_at" in batch:
        batch[f"{status}_at"] = int(now)


def fail(batch: ApiObject, errors: Sequence[ApiObject], now: float) -> None:
    """Set a batch to failed, with its errors."""
    batch["errors"] = {"object": "list", "data": list(errors)}
    move(batch, "failed", now)


def page(records: Sequence[ApiObject], after: str, limit: int, *, ascending: bool = False) -> ApiObject:
    """A page of a list in OpenAI's form: the newest first, after the object with the ID `after`."""
    ordered = sorted(records, key=lambda each: (each["created_at"], each["id"]), reverse=not ascending)
    if after:
        places = [number for number, each in enumerate(ordered) if each["id"] == after]
        ordered = ordered[places[0] + 1 :] if places else []
    page = ordered[:limit]
    ids = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return {"object": "list", "data": page, **ids, "has_more": len(ordered) > limit}
