"""Keys of models: whether a key that a user gives means a certain model, by the rules of the servers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstudio_async._wire._infos import ModelInfo

__all__ = ["is_beginning_of", "is_key_of", "is_only_beginning"]

# "@q8_0" and "@4bit" as LM Studio writes it, ":Q8_0" as the tools of llama.cpp do.
_VARIANT = re.compile(r"(?P<name>.+)[@:](?:ud-)?(?P<variant>(?:i?q|tq|bf|fp?|mx|nv)\w+|\d{1,2}-?bits?)")
_EMBEDDING_PREFIX = "text-embedding-"


def is_key_of(key: str, info: ModelInfo) -> bool:
    """Return whether a key is one of a model. A server may know several models of the key, and prefer another one.

    :param key: a model key, with or without ``@quantization`` or ``publisher/``; the path of a file or a repository.
    :param info: the model, as the server has described it.
    """
    wanted = _folded_key(key)
    own, path = _folded(info.model_key), _folded(info.path)
    if wanted in (own, path, _folded(info.indexed_model_identifier)):
        return True
    if info.selected_variant and wanted in map(_folded, info.variants or ()):
        return wanted == _folded(info.selected_variant)
    name, variant = _split(wanted)
    if variant and not _is_variant(variant, info):
        return False
    base = own.partition("@")[0]
    short = base.rpartition("/")[2]
    names = {base, short, short.removeprefix(_EMBEDDING_PREFIX)}
    names |= {f"{_folded(info.publisher)}/{each}" for each in names}
    folders = path.split("/")[:-1]
    repositories = ["/".join(folders[:depth]) for depth in range(2, len(folders) + 1)]
    return name in names or name in [
        form for each in repositories for form in (each, each.removesuffix("-gguf"))
    ]


def is_beginning_of(key: str, info: ModelInfo) -> bool:
    """Return whether a key is the beginning of a model's path. A server loads the model by it if it is the only one."""
    name, variant = _split(_folded_key(key))
    begins = name != "" and _folded(info.path).startswith(name)
    return begins and (not variant or _is_variant(variant, info))


def is_only_beginning(key: str, info: ModelInfo, models: Iterable[ModelInfo]) -> bool:
    """Return whether a key, the beginning of a model's path, means no other one of the downloaded models."""
    others = [model for model in models if model.type == info.type and model.path != info.path]
    return not any(is_key_of(key, other) or is_beginning_of(key, other) for other in others)


def _split(key: str) -> tuple[str, str]:
    """Return a key without the quantization at its end, and the quantization, if there is one."""
    found = _VARIANT.fullmatch(key)
    return (found["name"], found["variant"]) if found else (key, "")


def _is_variant(variant: str, info: ModelInfo) -> bool:
    quantization = info.quantization
    if quantization is None:
        return False
    if variant[0].isdigit():
        return int(re.sub(r"\D", "", variant)) == quantization.bits
    return re.sub("^fp", "f", variant) == re.sub("^fp", "f", _folded(quantization.name).removeprefix("ud-"))


def _folded_key(key: str) -> str:
    return _folded(key).replace("\\", "/").rstrip("/")


def _folded(text: str) -> str:
    """Return a text for comparison: in lower case and in NFC, because file systems encode accents differently."""
    return unicodedata.normalize("NFC", text).lower()
