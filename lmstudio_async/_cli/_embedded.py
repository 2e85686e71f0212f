"""The models that the embedded server could load: the commands look for them before they start it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio.to_thread

from lmstudio_async.embedded._catalog._catalog import Catalog, CatalogEntry
from lmstudio_async.embedded._catalog._embedding_names import EmbeddingNames
from lmstudio_async.errors import LMStudioError, LMStudioValueError

__all__ = ["check_folder", "has_llm", "models_in"]


def check_folder(folder: Path) -> Path:
    """Check that there is this folder, and return it.

    :raises LMStudioValueError: if there is none.
    """
    if not folder.is_dir():
        raise LMStudioValueError(
            f"There is no folder {folder}. Create it and put models there as publisher/repository/file.gguf, "
            "or give another one with --models."
        )
    return folder


async def models_in(
    folder: Path, embedding_models: Sequence[str] = ()
) -> tuple[Sequence[CatalogEntry], Mapping[str, str]]:
    """Return the models of a folder, and the reasons why other files were skipped, by path.

    :param embedding_models: as for ``EmbeddedServer``.
    """
    catalog = Catalog(folder, EmbeddingNames(embedding_models))
    return await anyio.to_thread.run_sync(catalog.scan), catalog.broken


async def has_llm(folder: Path, key: str | None) -> bool:
    """Return whether a folder has the language model that a key means, or any language model if there is no key."""
    if key is None:
        models, _ = await models_in(folder)
        return any(model.type == "llm" for model in models)
    try:
        await anyio.to_thread.run_sync(Catalog(folder).resolve, key, "llm")
    except LMStudioError:
        return False
    return True
