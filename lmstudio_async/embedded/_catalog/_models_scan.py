"""Result of a look at the places of a server: the models in them, and the files that are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import attrs

from lmstudio_async.embedded._catalog._catalog import Catalog

__all__ = ["FoundModel", "ModelsScan", "scan_catalog"]


@attrs.frozen(kw_only=True)
class FoundModel:
    """A model that an `EmbeddedServer` finds on the disk.

    :param model_key: the key to load it by.
    :param type: the kind of the model.
    :param path: its path, as clients get it: relative to its folder, with forward slashes.
    :param file: its file on the disk; of a model in several parts, the first one.
    :param size_bytes: size of all its files.
    """

    model_key: str
    type: Literal["llm", "embedding"]
    path: str
    file: Path
    size_bytes: int


@attrs.frozen
class ModelsScan:
    """The models that an `EmbeddedServer` finds, and the files that it skips: the result of its ``scan_models``.

    :param models: the models, in the alphabetical order of their paths.
    :param skipped: path -> the reason why this file or folder is not among the models. A path is relative to its folder.
    """

    models: Sequence[FoundModel]
    skipped: Mapping[str, str] = attrs.field(hash=False)


def scan_catalog(catalog: Catalog) -> ModelsScan:
    """Look at the places of a catalog. Blocks."""
    found = tuple(
        FoundModel(
            model_key=entry.model_key,
            type=entry.type,
            path=entry.path,
            file=entry.file,
            size_bytes=entry.size_bytes,
        )
        for entry in catalog.scan()
    )
    return ModelsScan(found, MappingProxyType(catalog.broken))
