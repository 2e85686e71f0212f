"""Detection of embedding models whose files look like an LLM's, by their names or by patterns of the server's owner."""

from __future__ import annotations

import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Final

from lmstudio_async.embedded._catalog._naming import folded
from lmstudio_async.errors import LMStudioValueError

__all__ = ["EmbeddingNames"]

# Families of embedding models that are LLMs by their architecture: Qwen3-Embedding, e5-mistral, gte-Qwen2, ...
_FAMILY: Final = re.compile(
    r"(?:^|[\s/_.-])(?:embed|embedding|embeddings|e5|gte|bge)(?=$|[\s/_.-])", re.IGNORECASE
)


class EmbeddingNames:
    """Names of embedding models: the usual families, and patterns.

    :param patterns: model keys or paths, with ``*`` and ``?``; upper and lower case are the same.
    :raises LMStudioValueError: if a pattern is no text, or empty.
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
        """Return whether the names of a model are those of an embedding model.

        :param key: its model key, without the prefix of embedding models.
        :param path: the path of its file, relative to the models folder.
        :param names: the name of its file, and the name in its metadata.
        """
        if any(map(_FAMILY.search, names)):
            return True
        return any(
            fnmatchcase(name, pattern) for name in (folded(key), folded(path)) for pattern in self._patterns
        )
