"""What the commands find out before they start the embedded server: what it could load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio.to_thread

from lmstudio_async.embedded._catalog import Catalog, CatalogEntry
from lmstudio_async.embedded._embedding_names import EmbeddingNames
from lmstudio_async.errors import LMStudioError, LMStudioValueError

__all__ = ["check_folder", "has_llm", "models_in"]


def check_folder(folder: Path) -> Path:
    """Make sure that there is such a folder."""
    if not folder.is_dir():
        raise LMStudioValueError(
            f"There is no folder {folder}. Make it and put models there as publisher/repository/file.gguf, "
            "or give another one with --models."
        )
    return folder


async def models_in(
    folder: Path, embedding_models: Sequence[str] = ()
) -> tuple[Sequence[CatalogEntry], Mapping[str, str]]:
    """The models of a folder, and by path why other files were skipped.

    :param embedding_models: as for ``EmbeddedServer``.
    """
    catalog = Catalog(folder, EmbeddingNames(embedding_models))
    return await anyio.to_thread.run_sync(catalog.scan), catalog.broken


async def has_llm(folder: Path, key: str | None) -> bool:
    """Whether a folder has the language model that a key means, or any if there is no key."""
    if key is None:
        models, _ = await models_in(folder)
        return any(model.type == "llm" for model in models)
    try:
        await anyio.to_thread.run_sync(Catalog(folder).resolve, key, "llm")
    except LMStudioError:
        return False
    return True
