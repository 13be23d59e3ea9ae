"""Reads the small files of a model before vLLM starts: config.json, chat template, tokens.

The model's author may be anybody. So each file is read up to a limit, and an unreadable file is treated as absent.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_CONFIG_BYTES = 4 << 20
MAX_TEMPLATE_BYTES = 1 << 20
MAX_TOKENIZER_BYTES = 64 << 20
"""The most bytes of each file that are read. The tokenizer.json of Gemma 3 has 33 MB."""

MAX_TEMPLATES = 8
"""The most chat templates that are read. A repository may have several, one of them for tools."""

MAX_KIND = 64
"""The most characters of a model_type."""

TOKENIZER_FILES = ("tokenizer_config.json", "added_tokens.json", "tokenizer.json", "tekken.json", "tokenizer.model*")


@dataclass(frozen=True)
class ModelFiles:
    """The content of a model's small files."""

    name: str
    """The name in vLLM's arguments: a repository, or a path."""
    kinds: frozenset[str] = frozenset()
    """`model_type` in config.json, of the model and of its language model. Empty if there is no such file here."""
    template: str | None = None
    """Its chat templates, joined; None if it has none."""
    tokenizer: Path | None = None
    """The folder of its tokenizer."""

    def has_tokens(self, tokens: Iterable[str]) -> bool:
        """Whether the files of the tokenizer name all of these."""
        missing = set(tokens)
        if not missing or self.tokenizer is None:
            return not missing
        for path in (path for pattern in TOKENIZER_FILES for path in sorted(self.tokenizer.glob(pattern))[:4]):
            content = _read(path, MAX_TOKENIZER_BYTES) or b""
            missing = {token for token in missing if not any(form in content for form in _forms(token))}
            if not missing:
                return True
        return False


def read_model_files(name: str, folder: Path | None, tokenizer: Path | None, chat_template: str | None) -> ModelFiles:
    """Read the files in `folder` and in the folder `tokenizer`.

    `chat_template` is the user's setting: a path, a template, or the name of one of the model's templates.
    """
    if folder is None:
        return ModelFiles(name)
    user_template = _user_template(chat_template)
    template = user_template if user_template is not None else "\n".join(_templates(tokenizer)) or None
    return ModelFiles(name, _kinds(folder), template, tokenizer)


def repository_folder(hub_cache: Path, name: str) -> Path:
    """The folder of a repository in huggingface_hub's cache."""
    return hub_cache / f"models--{name.replace('/', '--')}"


def find_model_folder(name: str, revision: str | None, hub_cache: Path) -> Path | None:
    """Find the folder of a model on this machine: at its path, or in the hub's cache. Returns None if it is not
    here."""
    try:
        if (folder := Path(name)).is_dir():
            return folder
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
            return None
        repository = repository_folder(hub_cache, name)
        reference = revision or "main"
        ref = repository / "refs" / reference
        commit = (_read(ref, 128) or b"").decode("ascii").strip() if ref.is_file() else reference
        snapshot = repository / "snapshots" / commit
        return snapshot if commit and snapshot.is_dir() else None
    except (OSError, ValueError):  # a name that no file can have
        return None


def embeds(folder: Path | None) -> bool:
    """Whether sentence-transformers wrote the model. Such a model gives vectors, whatever its architecture."""
    return folder is not None and (folder / "modules.json").is_file()


def _kinds(folder: Path) -> frozenset[str]:
    config = _read_object(folder / "config.json", MAX_CONFIG_BYTES)
    if not config and (folder / "params.json").is_file():
        return frozenset({"mistral"})  # Mistral's own format has no model_type
    inner = config.get("text_config")
    kinds = [config.get("model_type"), inner.get("model_type") if isinstance(inner, dict) else None]
    return frozenset(kind for kind in kinds if isinstance(kind, str) and 0 < len(kind) <= MAX_KIND)


def _user_template(setting: str | None) -> str | None:
    """Read the user's chat template as vLLM does: a file, or the template itself. None for a name or nothing."""
    if not setting:
        return None
    try:
        if Path(setting).is_file():
            return (_read(Path(setting), MAX_TEMPLATE_BYTES) or b"").decode("utf-8", "replace")
    except (OSError, ValueError):
        pass  # too long for a path: it is the template itself
    return setting if any(sign in setting for sign in "{}\n") else None


def _templates(folder: Path | None) -> Iterator[str]:
    if folder is None:
        return
    has_files = False
    for path in [
        folder / "chat_template.jinja",
        *sorted(folder.glob("additional_chat_templates/*.jinja"))[:MAX_TEMPLATES],
    ]:
        if content := _read(path, MAX_TEMPLATE_BYTES):
            has_files = True
            yield content.decode("utf-8", "replace")
    if has_files:
        return
    for name in ("chat_template.json", "tokenizer_config.json"):
        templates = _read_object(folder / name, MAX_CONFIG_BYTES).get("chat_template")
        if isinstance(templates, str):
            yield templates
        for entry in (templates if isinstance(templates, list) else [])[:MAX_TEMPLATES]:
            if isinstance(entry, dict) and isinstance(entry.get("template"), str):
                yield entry["template"]


def _read_object(path: Path, limit: int) -> Mapping[str, Any]:
    try:
        content = json.loads(_read(path, limit) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _read(path: Path, limit: int) -> bytes | None:
    """Read a file. Returns None if there is none, or if it cannot be read or has more than `limit` bytes."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError:
        return None
    return content if len(content) <= limit else None


def _forms(token: str) -> tuple[bytes, bytes]:
    """The forms of a token in a file: UTF-8, and JSON in ASCII."""
    return token.encode(), json.dumps(token)[1:-1].encode()
