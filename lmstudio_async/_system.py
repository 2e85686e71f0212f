"""The server itself."""

from __future__ import annotations

from collections.abc import Sequence

from lmstudio_async._embedding import AsyncDownloadedEmbeddingModel, AsyncEmbeddingNamespace
from lmstudio_async._llm import AsyncDownloadedLlm, AsyncLlmNamespace
from lmstudio_async._protocol._endpoints.system import LIST_DOWNLOADED_MODELS
from lmstudio_async._session import Session

__all__ = ["AsyncSystemNamespace"]


class AsyncSystemNamespace:
    """The server itself: `AsyncClient.system`."""

    def __init__(self, session: Session, llm: AsyncLlmNamespace, embedding: AsyncEmbeddingNamespace) -> None:
        self._session = session
        self._llm = llm
        self._embedding = embedding

    async def list_downloaded_models(self) -> Sequence[AsyncDownloadedLlm | AsyncDownloadedEmbeddingModel]:
        """List the models that are there to be loaded, of every kind that this SDK can load.

        :return: each of them, with what the server said about it.

        ::

            for model in await client.system.list_downloaded_models():
                print(model.type, model.model_key)
        """
        models: list[AsyncDownloadedLlm | AsyncDownloadedEmbeddingModel] = []
        for info in await self._session.call(LIST_DOWNLOADED_MODELS):
            if info.type == "llm":
                models.append(self._llm._make_downloaded(info))  # noqa: SLF001 - one room of the same house
            elif info.type == "embedding":
                models.append(self._embedding._make_downloaded(info))  # noqa: SLF001
        return models
