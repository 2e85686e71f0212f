"""The models that the embedded server could load: the commands look for them before they start it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio.to_thread

from lmstudio_async.embedded._catalog._catalog import Catalog, CatalogEntry
from lmstudio_async.embedded._catalog._embedding_names import EmbeddingNames
from lmstudio_async.embedded._catalog._model_places import ModelPlaces
from lmstudio_async.errors import LMStudioError

__all__ = ["has_llm", "models_in"]


async def models_in(
    places: ModelPlaces, embedding_models: Sequence[str] = ()
) -> tuple[Sequence[CatalogEntry], Mapping[str, str]]:
    """Return the models in some places, and the reasons why other files were skipped, by path.

    :param embedding_models: as for ``EmbeddedServer``.
    """
    catalog = Catalog(places, EmbeddingNames(embedding_models))
    return await anyio.to_thread.run_sync(catalog.scan), catalog.broken


async def has_llm(places: ModelPlaces, key: str | None) -> bool:
    """Return whether some places have the language model that a key means, or any language model if there is no key."""
    if key is None:
        models, _ = await models_in(places)
        return any(model.type == "llm" for model in models)
    try:
        await anyio.to_thread.run_sync(Catalog(places).resolve, key, "llm")
    except LMStudioError:
        return False
    return True
