"""Whether the model's files are on their way from the hub."""

from pathlib import Path


def in_progress(hub_cache: Path, model: str) -> bool:
    """huggingface_hub keeps a file under blobs/ with the ending .incomplete until it has arrived."""
    blobs = hub_cache / f"models--{model.replace('/', '--')}" / "blobs"
    return any(blobs.glob("*.incomplete"))
