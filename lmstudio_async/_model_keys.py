"""Keys of models: whether a key that a user gives means a certain model."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstudio_async._wire._infos import ModelInfo

__all__ = ["is_key_of"]

# "@q8_0" and "@4bit" as LM Studio writes it, ":Q8_0" as the tools of llama.cpp do.
_VARIANT = re.compile(r"(?P<name>.+)[@:](?:ud-)?(?P<variant>(?:i?q|tq|bf|fp?|mx|nv)\w+|\d{1,2}-?bits?)")
_EMBEDDING_PREFIX = "text-embedding-"


def is_key_of(key: str, info: ModelInfo) -> bool:
    """Return whether a server that loads this key may load this model.

    :param key: a model key, with or without ``@quantization`` or ``publisher/``; a path, or its beginning.
    :param info: the model, as the server has described it.
    """
    wanted = _folded(key).replace("\\", "/").rstrip("/")
    own, path = _folded(info.model_key), _folded(info.path)
    if wanted in (own, path, _folded(info.indexed_model_identifier)):
        return True
    if info.selected_variant and wanted in map(_folded, info.variants or ()):
        return wanted == _folded(info.selected_variant)
    found = _VARIANT.fullmatch(wanted)
    name = found["name"] if found else wanted
    if found and not _is_variant(found["variant"], info):
        return False
    base = own.partition("@")[0]
    short = base.rpartition("/")[2]
    names = {base, short, short.removeprefix(_EMBEDDING_PREFIX)}
    names |= {f"{_folded(info.publisher)}/{each}" for each in names}
    repository = path.rpartition("/")[0]
    names |= {repository.removesuffix("-gguf")}
    return name in names or ("/" in name and path.startswith(name))


def _is_variant(variant: str, info: ModelInfo) -> bool:
    quantization = info.quantization
    if quantization is None:
        return False
    if variant[0].isdigit():
        return int(re.sub(r"\D", "", variant)) == quantization.bits
    return re.sub("^fp", "f", variant) == re.sub("^fp", "f", _folded(quantization.name).removeprefix("ud-"))


def _folded(text: str) -> str:
    """Return a text for comparison: in lower case and in NFC, because file systems encode accents differently."""
    return unicodedata.normalize("NFC", text).lower()
