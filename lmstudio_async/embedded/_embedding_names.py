"""The embedding models among those whose files look like any LLM's: by their names, or because the owner says so."""

from __future__ import annotations

import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Final

from lmstudio_async.embedded._naming import folded
from lmstudio_async.errors import LMStudioValueError

__all__ = ["EmbeddingNames"]

# Families of embedding models that are LLMs by their architecture: Qwen3-Embedding, e5-mistral, gte-Qwen2, ...
_FAMILY: Final = re.compile(
    r"(?:^|[\s/_.-])(?:embed|embedding|embeddings|e5|gte|bge)(?=$|[\s/_.-])", re.IGNORECASE
)


class EmbeddingNames:
    """Tells which names are those of embedding models.

    :param patterns: of the owner: model keys or paths, with ``*`` and ``?``; capital letters are as small ones.
    :raises LMStudioValueError: if one of them is no text, or empty.
    """

    def __init__(self, patterns: Collection[str] = ()) -> None:
        if isinstance(patterns, str):
            raise LMStudioValueError(
                "embedding_models is a list of model keys or patterns, not a single text: write "
                f"embedding_models=[{patterns!r:.80}]"
            )
        for pattern in patterns:
            if not isinstance(pattern, str) or not pattern.strip():
                raise LMStudioValueError(
                    f"embedding_models are model keys or patterns, such as *-encoder, not {pattern!r:.80}"
                )
        self._patterns = [folded(pattern.strip()) for pattern in patterns]

    def has(self, key: str, path: str, names: Collection[str]) -> bool:
        """Whether a model is an embedding model, though its file does not say so.

        :param key: its model key, without the beginning of those of embedding models.
        :param path: of its file, relative to the models folder.
        :param names: what its file is called, and what it calls itself.
        """
        if any(map(_FAMILY.search, names)):
            return True
        return any(
            fnmatchcase(name, pattern) for name in (folded(key), folded(path)) for pattern in self._patterns
        )
