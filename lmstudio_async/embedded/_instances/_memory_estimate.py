"""Estimate of the memory that a load takes, computed from the header of the model file."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Final

from lmstudio_async._wire._usage import MemoryEstimate, ModelUsage
from lmstudio_async.embedded._catalog._catalog import CatalogEntry
from lmstudio_async.embedded._engine._engine_spec import EngineSpec

__all__ = ["estimate"]

# The engine's blocks of 32 numbers: bytes of one block.
_BLOCK_BYTES: Final = {
    "f32": 128,
    "f16": 64,
    "q8_0": 34,
    "q5_1": 24,
    "q5_0": 22,
    "q4_1": 20,
    "q4_0": 18,
    "iq4_nl": 18,
}

# Measured on workers of xllamacpp 2026.10: resident memory after the first answer. The constants are: the code of
# Python and of the engine; the threads and the server of the engine; one token of the vocabulary with its share of the
# merges; one cell of the cache; and the rows of a batch that exist at the same time.
#
# The code varies between 21 and 34 MB, because the kernel maps more of its files than is needed, depending on how they
# were read into the page cache.
_CODE_BYTES: Final = 28_000_000
_ENGINE_BYTES: Final = 12_700_000
_VOCABULARY_BYTES: Final = 430
_CELL_BYTES: Final = 72
_ROWS: Final = 4

# The engine keeps a buffer for its output of each token of the longest text that it has embedded. The output has a
# number for each token of the vocabulary, although an embedding does not need it. Most texts have at most this length.
_TEXT_TOKENS: Final = 128
_EMBEDDING_ROWS: Final = 8

# Architectures that keep each token in the cache of each block, so that the size of the cache is known exactly. Other
# architectures have sliding windows, latent or recurrent states, or blocks that share a cache: they take less memory
# than the estimate.
_PLAIN_ATTENTION: Final = frozenset(
    {
        "arcee",
        "bert",
        "command-r",
        "ernie4_5",
        "gemma",
        "glm4",
        "granite",
        "granitemoe",
        "internlm2",
        "llama",
        "nomic-bert",
        "olmo",
        "olmo2",
        "phi2",
        "qwen2",
        "qwen2moe",
        "qwen3",
        "qwen3moe",
        "smollm3",
        "stablelm",
        "starcoder2",
    }
)
_WINDOW: Final = 1 << 18


def estimate(entry: CatalogEntry, spec: EngineSpec) -> ModelUsage:
    """Estimate the memory of the worker process of a model.

    ``context_bytes`` is the cache of keys and values of every token. ``model_bytes`` is all the rest: the weights, the
    vocabulary, and the working memory of the engine. Confidence is low if the model may take more or less than that.
    The estimate of an embedding model is for texts of usual length. GPU memory is not estimated, because it cannot be
    computed from the header.
    """
    vocabulary = _vocabulary_size(entry.file)
    tokens = spec.context_length * (1 if spec.unified_kv_cache else spec.parallel_sessions)
    context_bytes = 0
    if entry.type == "embedding":
        numbers = (vocabulary or 0) + entry.embedding_length * _EMBEDDING_ROWS
        working_bytes = min(spec.context_length, _TEXT_TOKENS) * numbers * 4
    else:
        per_head = (
            entry.key_length * _BLOCK_BYTES[spec.k_cache_type]
            + entry.value_length * _BLOCK_BYTES[spec.v_cache_type]
        )
        context_bytes = tokens * entry.block_count * entry.head_count_kv * per_head // 32
        batch = min(spec.physical_batch_size or spec.eval_batch_size, spec.eval_batch_size)
        working_bytes = batch * entry.embedding_length * _ROWS * 4
    draft_bytes = _size(spec.draft_model_path) if spec.draft_model_path else 0
    model_bytes = (
        entry.size_bytes
        + draft_bytes
        + _CODE_BYTES
        + _ENGINE_BYTES
        + (vocabulary or 0) * _VOCABULARY_BYTES
        + (tokens * _CELL_BYTES if context_bytes else 0)
        + working_bytes
    )
    sure = (
        entry.architecture in _PLAIN_ATTENTION
        and vocabulary is not None
        and entry.projector is None
        and spec.draft_model_path is None
    )
    return ModelUsage(
        memory=MemoryEstimate(
            confidence="high" if sure else "low",
            model_bytes=model_bytes,
            context_bytes=context_bytes,
            total_bytes=model_bytes + context_bytes,
        )
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _vocabulary_size(file: Path) -> int | None:
    """Return the number of tokens in the vocabulary, or None if it is not near the beginning of the header.

    Reading the whole header takes a tenth of a second for a big vocabulary. This function reads once: the number
    precedes the vocabulary itself, and the keys before it are short.
    """
    try:
        with file.open("rb", buffering=0) as source:
            beginning = source.read(_WINDOW)
    except OSError:
        return None
    found = re.search(rb"tokenizer\.ggml\.tokens\x09\0\0\0\x08\0\0\0(.{8})", beginning, re.DOTALL)
    if found is None:
        return None
    (count,) = struct.unpack("<Q", found[1])
    return int(count) if count < 1 << 22 else None
