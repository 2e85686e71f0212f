"""Embedding models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, ClassVar, Literal, cast, overload

from lmstudio_async._downloaded_model import AsyncDownloadedModel
from lmstudio_async._handles import AsyncModelHandle, UnreadInfo, to_texts
from lmstudio_async._model_namespace import AsyncModelNamespace
from lmstudio_async._preload import preload

if TYPE_CHECKING:
    from lmstudio_async._config import (
        EmbeddingLoadModelConfig,
        EmbeddingLoadModelConfigDict,
    )
    from lmstudio_async._wire._infos import (
        EmbeddingModelInfo,
        EmbeddingModelInstanceInfo,
        ModelInfo,
        ModelInstanceInfo,
    )

__all__ = ["AsyncDownloadedEmbeddingModel", "AsyncEmbeddingModel", "AsyncEmbeddingNamespace"]

_EMBEDDING = ("_protocol._endpoints.embedding", "_wire._models", "_wire._texts")


class AsyncEmbeddingModel(AsyncModelHandle["EmbeddingModelInstanceInfo"]):
    """A loaded instance of an embedding model."""

    async def get_load_config(self) -> EmbeddingLoadModelConfig:
        """Request the load config of the instance: the settings that the server really applied.

        :return: the load config.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.
        """
        fields = await self._load_config_fields()
        from lmstudio_async._config import load_config_from_fields

        return load_config_from_fields(fields, "embedding")

    @overload
    async def embed(self, input: str) -> Sequence[float]: ...  # type: ignore[overload-overlap]

    @overload
    async def embed(self, input: Iterable[str]) -> Sequence[Sequence[float]]: ...

    async def embed(self, input: str | Iterable[str]) -> Sequence[float] | Sequence[Sequence[float]]:  # noqa: A002
        """Compute the embedding vectors of texts.

        :param input: a text, or several.
        :return: the vector of the text; for several texts a list of vectors.
        :raises LMStudioInstanceUnloadedError: if the instance is gone.

        ::

            model = await client.embedding.model("nomic-embed-text-v1.5")
            vector = await model.embed("Hello, world!")
        """
        await preload(*_EMBEDDING)
        from lmstudio_async._protocol._endpoints.embedding import EMBED_STRING
        from lmstudio_async._wire._texts import EmbedStringParameter

        parameters = [
            EmbedStringParameter(model_specifier=self._specifier, input_string=text)
            for text in to_texts(input)
        ]
        tracing = self._session.tracing()
        with nullcontext() if tracing is None else tracing.embedding(self._info) as span:
            answers = await self._session.call_each(EMBED_STRING, parameters)
            vectors = [answer.embedding for answer in answers]
            if span is not None:
                span.on_vectors(vectors)
        return vectors[0] if isinstance(input, str) else vectors


class AsyncDownloadedEmbeddingModel(
    AsyncDownloadedModel[
        AsyncEmbeddingModel, "EmbeddingModelInfo", "EmbeddingLoadModelConfig | EmbeddingLoadModelConfigDict"
    ]
):
    """A downloaded embedding model, which can be loaded."""


class AsyncEmbeddingNamespace(
    AsyncModelNamespace[
        AsyncEmbeddingModel,
        "EmbeddingModelInstanceInfo",
        AsyncDownloadedEmbeddingModel,
        "EmbeddingLoadModelConfig | EmbeddingLoadModelConfigDict",
    ]
):
    """The embedding models of a server: `AsyncClient.embedding`."""

    _domain: ClassVar[Literal["llm", "embedding"]] = "embedding"
    _handle_modules = _EMBEDDING

    def _make_handle(self, info: ModelInstanceInfo | UnreadInfo) -> AsyncEmbeddingModel:
        return AsyncEmbeddingModel(self._session, cast("EmbeddingModelInstanceInfo | UnreadInfo", info))

    def _make_downloaded(self, info: ModelInfo) -> AsyncDownloadedEmbeddingModel:
        return AsyncDownloadedEmbeddingModel(self, self._session, cast("EmbeddingModelInfo", info))
