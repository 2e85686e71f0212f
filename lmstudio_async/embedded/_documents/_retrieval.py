"""Retrieval: a search for the passages of texts that match a question, by the vectors of an embedding model."""

from __future__ import annotations

import heapq
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio.to_thread
import attrs

from lmstudio_async._protocol._errors import server_error, unsupported_feature
from lmstudio_async._wire._files import (
    FileProcessingEnd,
    FileProcessingStart,
    FileProcessingStepEnd,
    FileProcessingStepProgress,
    FileProcessingStepStart,
    FileProcessList,
    RetrievalEntry,
    RetrievalResult,
    RetrievalResultPacket,
    SearchingEnd,
    SearchingStart,
)
from lmstudio_async._wire._kv import KEYS, check, default, from_fields
from lmstudio_async.embedded._connections._connection import Channel
from lmstudio_async.embedded._documents._passages import Passage, cut
from lmstudio_async.embedded._engine._engine import Engine
from lmstudio_async.embedded._versions import engine_version

__all__ = ["RetrievalSettings", "retrieve"]

_PREFIX: Final = "retrieval."


@attrs.frozen
class RetrievalSettings:
    """Settings of a search."""

    size: int
    """Maximum number of characters of a passage."""
    overlap: int
    """Maximum number of characters that two neighbouring passages have in common."""
    limit: int
    """Maximum number of passages to return."""
    model: str
    """Identifier of the embedding model; empty for any loaded one."""

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> RetrievalSettings:
        """Read a KV config.

        :raises LMStudioServerError: the config has an unknown key or an invalid value.
        :raises LMStudioUnsupportedFeatureError: the config has a ``databaseFile``.
        """
        given = from_fields(config)
        for key, value in given.items():
            problem = check(key, value) if key.startswith(_PREFIX) and key in KEYS else f"{key} is unknown"
            if problem:
                raise server_error(f"The retrieval config is invalid: {problem}.")
        values = {key: default(key) for key in KEYS if key.startswith(_PREFIX)} | given
        if values[_PREFIX + "databaseFile"]:
            raise unsupported_feature(
                _PREFIX + "databaseFile",
                engine_version(),
                "this server keeps no database of passages",
                "Leave it out: the passages are compared in memory.",
            )
        method = default(_PREFIX + "chunkingMethod") | values[_PREFIX + "chunkingMethod"]
        size, overlap = method["chunkSize"], method["chunkOverlap"]
        if not 0 <= overlap < size:
            raise server_error(
                f"A passage of {size} characters cannot have {overlap} of them in common with the next one.",
                "Choose a chunkOverlap of at least 0 and below the chunkSize.",
            )
        return cls(size, overlap, values[_PREFIX + "limit"], values[_PREFIX + "embeddingModel"])


async def retrieve(
    question: str, texts: Sequence[str], settings: RetrievalSettings, engine: Engine, channel: Channel
) -> None:
    """Find the passages of texts that match a question, and send progress and results to the client.

    :param engine: the engine of the embedding model.
    """
    wanted = await engine.embed(question)
    channel.post(FileProcessList(indices=list(range(len(texts)))))
    found: list[tuple[float, int, Passage]] = []
    for index, text in enumerate(texts):
        channel.post(FileProcessingStart(index=index))
        # The step "loading" ends immediately, because the texts are in memory already.
        channel.post(FileProcessingStepStart(index=index, step="loading"))
        channel.post(FileProcessingStepEnd(index=index, step="loading"))
        channel.post(FileProcessingStepStart(index=index, step="chunking"))
        passages = await anyio.to_thread.run_sync(cut, text, settings.size, settings.overlap)
        channel.post(FileProcessingStepEnd(index=index, step="chunking"))
        channel.post(FileProcessingStepStart(index=index, step="embedding"))
        for number, passage in enumerate(passages, 1):
            vector = await engine.embed(passage.content)
            # This is the cosine of the angle between the vectors, because their length is one.
            found.append((sum(map(operator.mul, wanted, vector)), index, passage))
            progress = number / len(passages)
            await channel.send(FileProcessingStepProgress(index=index, step="embedding", progress=progress))
        channel.post(FileProcessingStepEnd(index=index, step="embedding"))
        channel.post(FileProcessingEnd(index=index))
    channel.post(SearchingStart())
    best = heapq.nlargest(settings.limit, found, key=operator.itemgetter(0))
    channel.post(SearchingEnd())
    entries = [
        RetrievalEntry(
            content=passage.content,
            score=score,
            source_index=index,
            line_number=[passage.first_line, passage.last_line],
        )
        for score, index, passage in best
    ]
    channel.post(RetrievalResultPacket(result=RetrievalResult(entries=entries)))
