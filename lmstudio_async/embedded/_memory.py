"""How much memory a load would take, reckoned from the file's header."""

from __future__ import annotations

from lmstudio_async._wire._models import MemoryEstimate, ModelUsage
from lmstudio_async.embedded._catalog import CatalogEntry
from lmstudio_async.embedded._engine import EngineSpec

__all__ = ["estimate"]

# The engine's blocks of 32 numbers: bytes of one block.
_BLOCK_BYTES = {
    "f32": 128,
    "f16": 64,
    "q8_0": 34,
    "q5_1": 24,
    "q5_0": 22,
    "q4_1": 20,
    "q4_0": 18,
    "iq4_nl": 18,
}


def estimate(entry: CatalogEntry, spec: EngineSpec) -> ModelUsage:
    """The weights, and the cache of keys and values of every token of the context.

    Confidence is low: what the engine needs for computing comes on top, and models with sliding windows or without
    attention keep less. On how much of it a GPU would get, the header says nothing: it is counted as none.
    """
    tokens = spec.context_length * (1 if spec.unified_kv_cache else spec.parallel_sessions)
    context_bytes = 0
    if entry.type == "llm":
        per_head = (
            entry.key_length * _BLOCK_BYTES[spec.k_cache_type]
            + entry.value_length * _BLOCK_BYTES[spec.v_cache_type]
        )
        context_bytes = tokens * entry.block_count * entry.head_count_kv * per_head // 32
    return ModelUsage(
        memory=MemoryEstimate(
            confidence="low",
            model_bytes=entry.size_bytes,
            context_bytes=context_bytes,
            total_bytes=entry.size_bytes + context_bytes,
        )
    )
